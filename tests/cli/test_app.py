"""Help, version, packs."""

import json
from collections.abc import Callable

import pytest

from tests.cli.conftest import Result
from tsq_cli import __version__

Tsq = Callable[..., Result]


def test_help_names_the_commands_and_the_exit_codes(tsq: Tsq) -> None:
    result = tsq("--help")
    assert result.code == 0
    for word in ("select", "packs", "130 interrupted", "tsq select video.mp4 -k 5"):
        assert word in result.out, word


def test_no_arguments_show_help(tsq: Tsq) -> None:
    assert "Commands" in tsq().out


def test_select_help_groups_its_options(tsq: Tsq) -> None:
    out = tsq("select", "--help").out
    for panel in ("Input", "Selection", "Model", "Output", "Run"):
        assert f" {panel} " in out
    assert "extra tsq-cli[text]" in out


def test_version(tsq: Tsq) -> None:
    assert tsq("--version").out == f"tsq {__version__}\n"


def test_an_unknown_command_is_a_usage_error(tsq: Tsq) -> None:
    assert tsq("slect").code == 2


def test_packs_list_and_show(tsq: Tsq) -> None:
    listed = json.loads(tsq("packs", "list", "--json").out)
    assert {"imagenet", "imagenet-lite"} <= {pack["name"] for pack in listed}
    assert "imagenet-lite" in tsq("packs", "list").out
    shown = json.loads(tsq("packs", "show", "imagenet-lite").out)
    assert shown["settings"]["num_frames"] == 5
    assert shown["num_classes"] == 1000


def test_packs_verify(tsq: Tsq) -> None:
    result = tsq("packs", "verify", "imagenet-lite")
    assert result.code == 0, result.out
    assert "FAIL" not in result.out
    assert result.out.count("ok") >= 3


@pytest.mark.parametrize("command", ["show", "pull", "verify"])
def test_an_unknown_pack_is_a_usage_error_that_names_the_known(tsq: Tsq, command: str) -> None:
    result = tsq("packs", command, "nonesuch")
    assert result.code == 2
    assert "imagenet-lite" in result.err
