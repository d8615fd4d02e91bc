"""bfloat16 is chosen where the device has units for it, and not where somebody has hidden them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from gan_lib.core.precision import dtype_of, has_bfloat16_units

CPU = torch.device("cpu")


def with_units(monkeypatch: pytest.MonkeyPatch, *units: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True), raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)


def test_auto_is_bfloat16_where_there_are_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with_units(monkeypatch, "avx2", "avx512_f", "avx512_bf16")
    assert dtype_of("auto", CPU) == torch.bfloat16
    with_units(monkeypatch, "avx2", "avx512_f")
    assert dtype_of("auto", CPU) == torch.float32


@pytest.mark.parametrize("limit, hidden", [("AVX512_CORE", True), ("avx2", True), ("avx512_core_amx", False)])
def test_units_that_are_hidden_from_onednn_do_not_count(
    limit: str, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_units(monkeypatch, "avx512_bf16", "amx_bf16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert has_bfloat16_units(CPU) is not hidden


def test_who_names_a_format_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with_units(monkeypatch)
    assert (dtype_of("bfloat16", CPU), dtype_of("float32", CPU)) == (torch.bfloat16, torch.float32)


def test_a_real_process_with_hidden_units_finds_none() -> None:
    told = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    asked = "import torch; from gan_lib.core.precision import dtype_of; print(dtype_of('auto', torch.device('cpu')))"
    answer = subprocess.run([sys.executable, "-c", asked], env=told, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "torch.float32"
