"""`stm-fast annotate`: a page for the browser, in which objects are shown, followed, corrected and exported."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from stm_fast.cli import options
from stm_fast.cli.console import say, stdout, with_sentences
from stm_fast.cli.logs import log_to
from stm_fast.errors import StmFastError
from stm_fast.tracking.options import TrackOptions

SERVER_PANEL = "Server"


@with_sentences
@options.takes_track_options(*options.FOR_DATASETS, "offload")
def annotate(
    source: Annotated[str, typer.Argument(metavar="VIDEO", help="A video, or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder of the project: that of the results of stm-fast segment.")],
    tracking: TrackOptions,
    host: Annotated[
        str | None,
        typer.Option(
            help="Name or address to listen at, for other machines. Defaults to this machine alone; an ssh tunnel is "
            "safer.",
            show_default=False,
            rich_help_panel=SERVER_PANEL,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for a free one.", rich_help_panel=SERVER_PANEL)
    ] = 0,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How often to write the state from which a killed run continues to the same masks; 0 for never.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = 120.0,
    threads: options.Threads = None,
) -> None:
    """Serve a page in which objects of a video are shown, followed, corrected and exported.

    Prints the address of the page, and serves it until Ctrl-C. All of it is in OUT, and on disk at once: the masks in
    the form of stm-fast segment, what was drawn in OUT/first_masks and OUT/corrections. A folder that stm-fast segment
    wrote can be opened.
    """
    try:
        from stm_fast.app.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise StmFastError("annotate needs starlette and uvicorn: pip install 'stm-fast[web]'") from error
    from stm_fast.app.open_project import open_project

    def ready(address: str) -> None:
        stdout.print(address, markup=False, soft_wrap=True)
        say(f"Open this address in a browser. The project is in {out}; Ctrl-C ends.")

    opening = open_project(source, out, tracking, checkpoint_every=checkpoint_every)
    with opening as opened, suppress(KeyboardInterrupt):
        log_to(out, append=True)
        serve(opened, host=host, port=port, ready=ready)
    say(f"All that was drawn and found is in {out}.")
