"""Every bad argument gets a sentence that names it, what was seen and what is allowed."""

import re
from pathlib import Path

import pytest
import torch

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import memory_read
from stm_fast.ops.backends import reference, registry
from stm_fast.ops.calls import Call, Outputs
from tests.ops.cases import make_case

QUERY, KEY, VALUE = torch.ones(2, 4, 3), torch.ones(2, 4, 5), torch.ones(2, 6, 5)
L2 = {"similarity": "l2"}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"query_key": [1]}, TypeError, "query_key is a list; allowed is a torch.Tensor"),
        ({"memory_key": KEY.int()}, TypeError, "memory_key is torch.int32; allowed are torch.float16"),
        ({"memory_key": KEY.half()}, TypeError, "memory_key is torch.float16; allowed is torch.float32, the dtype of"),
        ({"memory_value": VALUE.double()}, TypeError, "memory_value is torch.float64, the keys are torch.float32"),
        ({"query_key": torch.ones(2, 4)}, ValueError, "query_key has shape (2, 4); allowed is (B, Ck, *grid)"),
        ({"memory_key": torch.ones(2, 7, 5)}, ValueError, "memory_key has shape (2, 7, 5); allowed is (2, 4, *grid)"),
        ({"memory_key": torch.ones(3, 4, 5)}, ValueError, "memory_key has shape (3, 4, 5); allowed is (2, 4, *grid)"),
        ({"memory_key": KEY[..., :0]}, ValueError, "memory_key has shape (2, 4, 0); its grid needs at least one"),
        (
            {"memory_key": KEY[:, :0], "query_key": QUERY[:, :0]},
            ValueError,
            "query_key has shape (2, 0, 3); it needs at least one channel",
        ),
        ({"memory_value": torch.ones(2, 6, 7)}, ValueError, "allowed are (2, Cv, 5) and (2, O, Cv, 5)"),
        ({"memory_value": torch.ones(1, 6, 5)}, ValueError, "memory_value has shape (1, 6, 5)"),
        ({"memory_value": torch.ones(2, 1, 1, 6, 5)}, ValueError, "memory_value has shape (2, 1, 1, 6, 5)"),
        ({"memory_value": VALUE.to("meta")}, ValueError, "memory_value is on meta; allowed is cpu"),
        ({"similarity": "cosine"}, ValueError, "similarity is 'cosine'; allowed are 'dot' and 'l2'"),
        ({"scale": "2"}, TypeError, "scale is a str; allowed are a number and None"),
        ({"scale": float("nan")}, ValueError, "scale is nan; allowed are finite numbers"),
        ({"shrinkage": torch.ones(2, 1, 5)}, ValueError, "shrinkage is given with similarity 'dot'"),
        ({"selection": QUERY}, ValueError, "selection is given with similarity 'dot'"),
        ({**L2, "shrinkage": torch.ones(2, 5)}, ValueError, "shrinkage has shape (2, 5); allowed is (2, 1, 5)"),
        ({**L2, "selection": KEY}, ValueError, "selection has shape (2, 4, 5); allowed is (2, 4, 3)"),
        ({**L2, "selection": 3}, TypeError, "selection is a int; allowed is a torch.Tensor"),
        ({"top_k": 0}, ValueError, "top_k is 0; allowed are 1 and more"),
        ({"top_k": 2.0}, TypeError, "top_k is a float; allowed are an int and None"),
        ({"memory_mask": torch.ones(2, 5)}, TypeError, "memory_mask is torch.float32; allowed are torch.bool"),
        ({"memory_mask": torch.ones(1, 5, dtype=torch.bool)}, ValueError, "memory_mask has shape (1, 5); allowed is"),
        ({"backend": "tpu"}, ValueError, "backend is 'tpu'; allowed are 'auto', 'cpu', 'triton', 'cuda', 'reference'"),
    ],
)
def test_bad_argument(changed: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        memory_read(**{"query_key": QUERY, "memory_key": KEY, "memory_value": VALUE, **changed})


def test_named_backend_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BACKENDS", {"reference": registry.BACKENDS["reference"]})
    monkeypatch.setattr(reference, "refusal", lambda call: f"it is tired of {call.operation}")
    message = "backend 'reference' cannot serve read: it is tired of read"
    for backend in ("reference", "auto"):
        with pytest.raises(BackendUnavailableError, match=message):
            make_case("dot").read(memory_read, backend=backend)


def test_auto_takes_the_first_backend_that_supports_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky:
        """A faster backend that reads one frame only."""

        @staticmethod
        def device_type() -> str:
            return "cpu"

        @staticmethod
        def unavailable(device: torch.device) -> None:
            return None

        @staticmethod
        def refusal(call: Call) -> str | None:
            tokens = call.operands.key.shape[-1]
            return None if tokens <= 15 else f"it takes 15 tokens, not {tokens}"

        @staticmethod
        def fill(call: Call, outputs: Outputs) -> None:
            outputs.out.fill_(7)
            outputs.lse.zero_()

    load = registry.load
    monkeypatch.setattr(registry, "BACKENDS", {"picky": "", **registry.BACKENDS})
    monkeypatch.setattr(registry, "load", lambda name: Picky if name == "picky" else load(name))
    case = make_case("dot")
    assert (memory_read(case.query_key, case.memory_key[:, :, :1], case.memory_value[:, :, :1]) == 7).all()
    torch.testing.assert_close(case.read(memory_read), case.read(memory_read, backend="reference"))
    with pytest.raises(BackendUnavailableError, match="it takes 15 tokens, not 30"):
        case.read(memory_read, backend="picky")


def test_availability_of_backends() -> None:
    availability = registry.availability()
    assert availability["cpu"] is availability["reference"] is None
    if not torch.cuda.is_available():
        assert availability["triton"] == availability["cuda"] == "torch sees no GPU"


def test_a_backend_that_cannot_be_imported_leaves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_backend.py").write_text("raise OSError('libbroken.so is not there')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "BACKENDS", {"broken": "broken_backend", **registry.BACKENDS})
    case = make_case("dot")
    torch.testing.assert_close(case.read(memory_read), case.read(memory_read, backend="reference"))
    reason = "its module cannot be imported: libbroken.so is not there"
    assert registry.availability()["broken"] == reason
    with pytest.raises(BackendUnavailableError, match=f"backend 'broken' cannot serve read: {reason}"):
        case.read(memory_read, backend="broken")
