"""`stm-fast export`: the masks of a result in another format."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli.console import Interrupted, stdout, with_sentences
from stm_fast.errors import ArgumentError
from stm_fast.export.formats import FORMATS
from stm_fast.progress import progress_bar

if TYPE_CHECKING:
    from stm_fast.export.result import MaskedFrame

FORMAT_PANEL = "Options of some formats"


def _takers(option: str) -> str:
    """Name the formats that take an option."""
    return ", ".join(each.name for each in FORMATS.values() if option in each.takes)


def _known(name: str) -> str:
    """Return the argument; raise a usage error if it is the name of no format."""
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}.")
    return name


@with_sentences
def export(
    results: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder of the results of stm-fast segment, or a folder of masks."),
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            callback=_known,
            autocompletion=lambda: list(FORMATS),
            metavar="FORMAT",
            help=f"One of {', '.join(FORMATS)}. docs/export.md says what each is for, and what is lost.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_FOLDER",
            help="What to write. Defaults to a name of the format in OUT/export.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            metavar="INPUT",
            help="The video of the masks, if it is no longer where it was segmented.",
            show_default=False,
        ),
    ] = None,
    objects: Annotated[
        list[int] | None,
        typer.Option("--object", metavar="ID", help="Export only this object; repeat for more.", show_default=False),
    ] = None,
    void: Annotated[
        int | None,
        typer.Option(min=1, max=255, metavar="ID", help="Ignore pixels of this id in masks.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    categories: Annotated[
        list[str] | None,
        typer.Option(
            "--category",
            metavar="ID=NAME",
            help=f"What an object is, such as 1=dog; repeat for more. Others are an 'object'. For "
            f"{_takers('categories')}.",
            show_default=False,
            rich_help_panel=FORMAT_PANEL,
        ),
    ] = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help=f"Also write the frames: copies of image files, JPEG for a video. For {_takers('images')}.",
            rich_help_panel=FORMAT_PANEL,
        ),
    ] = False,
    image_root: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Put this before the names of images, such as a folder or URL that ends in /. For "
            f"{_takers('image_root')}.",
            show_default=False,
            rich_help_panel=FORMAT_PANEL,
        ),
    ] = "",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PIXELS",
            help="Distance by which outlines may cut corners; 0 keeps every pixel. Defaults to 0 for geojson, else "
            f"0.4. For {_takers('tolerance')}.",
            show_default=False,
            rich_help_panel=FORMAT_PANEL,
        ),
    ] = None,
    soft: Annotated[
        bool,
        typer.Option(
            "--soft",
            help="Alpha is the probability of the objects, which stm-fast segment --soft keeps. For "
            f"{_takers('soft')}.",
            rich_help_panel=FORMAT_PANEL,
        ),
    ] = False,
    bits: Annotated[
        int | None,
        typer.Option(
            metavar="8|16",
            help=f"Bits of probabilities. Defaults to those that were kept. For {_takers('bits')}.",
            show_default=False,
            rich_help_panel=FORMAT_PANEL,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help=f"Frames per second. Defaults to the times of the video, or 24 for images. For {_takers('fps')}.",
            show_default=False,
            rich_help_panel=FORMAT_PANEL,
        ),
    ] = None,
) -> None:
    """Write the masks of a result in the format of another program.

    Frames and masks are read one at a time, so that a result may be of any length. What is written appears once it is
    complete.
    """
    from stm_fast.export.api import export_result
    from stm_fast.export.options import ExportOptions
    from stm_fast.export.result import Result

    options = ExportOptions(
        categories=_categories(categories or []),
        images=images,
        image_root=image_root,
        tolerance=tolerance,
        soft=soft,
        bits=bits,
        fps=fps,
    )
    result = Result(results, frames=frames, objects=objects or (), void=void)
    seen: set[int] = set()

    def each(frame: "MaskedFrame") -> None:
        seen.update(frame.objects)
        advance()

    try:
        with progress_bar("Exporting", len(result)) as advance:
            target = export_result(result, format_, out, options=options, overwrite=overwrite, each=each)
    except KeyboardInterrupt as error:
        raise Interrupted("Interrupted; nothing was written. The same command starts over.") from error
    frames_said = "1 frame" if len(result) == 1 else f"{len(result)} frames"
    objects_said = "1 object" if len(seen) == 1 else f"{len(seen)} objects"
    stdout.print(f"{frames_said}, {objects_said}; {format_} is in {target}", markup=False, soft_wrap=True)


def _categories(given: list[str]) -> dict[int, str]:
    """Return the categories of objects.

    Raises:
        ArgumentError: one is not an id and a name.
    """
    found: dict[int, str] = {}
    for each in given:
        number, equals, name = each.partition("=")
        if not equals or not number.strip().isdecimal():
            raise ArgumentError("category", f"must be an id and a name, such as 1=dog, got {each}")
        found[int(number)] = name.strip()
    return found
