#!/usr/bin/env python3
"""Writes the flags of az commands, as Debian's azure-cli has them, into testdata/az-2.45.0.txt.

    make deps-az                        # or unpack the packages, and set PYTHONPATH to their dist-packages
    python3 deploy/azure/az-commands.py deploy/azure/testdata/az-2.45.0.txt

The file has a line for each command: its words, a colon, and its flags. Other names of a flag follow it after |, and *
marks a flag that must be given. To add a command, write a line with its words and a colon, and run this again.

It asks azure-cli for its own table of commands, signs in nowhere and sends nothing. Debian's azure-cli is older than
Debian's SDK, so some of its modules do not load whole: where the SDK lacks a model, a stand-in takes its place. That
changes the values of a flag which az suggests, and not the flags.
"""

import os
import sys
import tempfile
from unittest.mock import MagicMock

os.environ["AZURE_CORE_COLLECT_TELEMETRY"] = "0"
os.environ["AZURE_CONFIG_DIR"] = tempfile.mkdtemp()

import azure.cli.core
import azure.cli.core.commands.parameters as parameters
import azure.cli.core.profiles as profiles


def with_stand_ins(get_sdk):
    """Returns get_sdk with a stand-in for each model that the SDK lacks."""

    def get(ctx, resource_type, *names, **options):
        try:
            found = get_sdk(ctx, resource_type, *names, **options)
        except ImportError:
            found = [None] * len(names) if len(names) > 1 else None
        if isinstance(found, (list, tuple)):
            return [model or MagicMock() for model in found]
        return found or MagicMock()

    return get


def without_choices(get_enum_type):
    """Returns get_enum_type, which gives no choices where those of a stand-in are asked for."""

    def get(data, default=None):
        try:
            return get_enum_type(data, default)
        except Exception:  # whatever a stand-in is not good for
            return parameters.CLIArgumentType()

    return get


def flags(invocation, words):
    """Returns the flags of a command, each with its other names; None if az lacks the command or cannot load it."""
    loader = invocation.commands_loader
    command = loader.load_command_table(words.split()).get(words)
    if command is None:
        return None
    loader.command_name = invocation.data["command_string"] = words
    try:
        loader.load_arguments(words)
    except ImportError:
        return None
    found = []
    for argument in command.arguments.values():
        settings = argument.type.settings
        names = [str(getattr(name, "target", name)) for name in settings.get("options_list") or ()]
        if names and argument.name != "cmd":
            found.append(("*" if settings.get("required") else "") + "|".join(names))
    return sorted(found, key=lambda flag: flag.lstrip("*"))


def main(path):
    profiles.get_sdk = with_stand_ins(profiles.get_sdk)
    parameters.get_enum_type = without_choices(parameters.get_enum_type)
    cli = azure.cli.core.get_default_cli()
    invocation = cli.invocation_cls(
        cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls, help_cls=cli.help_cls
    )
    cli.invocation = invocation
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    head = [line for line in lines if line.startswith("#")]
    body, missing = [], []
    for words in sorted({line.split(":")[0] for line in lines if line and not line.startswith("#")}):
        found = flags(invocation, words)
        if found is None:
            missing.append(words)
        else:
            body.append(f"{words}: {' '.join(found)}")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(head + body) + "\n")
    if missing:
        sys.exit("az has no command, or cannot load it: " + ", ".join(missing))


main(sys.argv[1])
