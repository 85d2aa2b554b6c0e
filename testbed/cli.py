"""The command line: `python3 -m testbed ...`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testbed import images, servers
from testbed.errors import TestbedError
from testbed.paths import write
from testbed.recipes import SUITES
from testbed.servers import Server, Spec
from testbed.shell import say


def inventory(found: Sequence[Server]) -> str:
    """Return an Ansible inventory (YAML) of servers and of the groups they are in."""
    lines = ["---", "all:", "  hosts:"]
    for server in found:
        lines.append(f"    {server.name}:")
        # JSON's strings are YAML's as well
        lines += [f"      {key}: {json.dumps(v)}" for key, v in server.inventory().items()]
    groups = dict.fromkeys(group for server in found for group in server.member_of)
    if groups:
        lines.append("  children:")
    for group in groups:
        lines += [f"    {group}:", "      hosts:"]
        lines += [f"        {server.name}: {{}}" for server in found if group in server.member_of]
    return "\n".join(lines) + "\n"


def describe(server: Server) -> dict[str, Any]:
    """Return a server's facts for a program."""
    return {
        **asdict(server),
        "ssh_config": str(server.ssh_config),
        "inventory": server.inventory(),
    }


def do_up(args: argparse.Namespace) -> None:
    """Start servers."""
    if len(args.name) > 1 and (args.alias or args.publish):
        raise TestbedError("--alias and --publish go with one server at a time.")
    described = []
    for name in args.name:
        spec = Spec(
            name=name,
            suite=args.suite,
            group=args.group,
            aliases=tuple(args.alias),
            publish=tuple(args.publish),
            user=args.user,
            member_of=tuple(args.member_of),
        )
        server, changed = servers.up(spec)
        described.append(describe(server))
        say(f"{name}: {'up' if changed else 'was up already'}, {args.suite}, {server.address}")
    if args.json:
        print(json.dumps(described, indent=2))


def do_down(args: argparse.Namespace) -> None:
    """Remove servers."""
    if args.all:
        found = servers.containers()
    elif args.group:
        found = servers.containers(group=args.group)
    elif args.name:
        found = [c for name in args.name for c in servers.containers(name=name)]
    else:
        raise TestbedError("Say which: NAME..., --group GROUP or --all.")
    for name in servers.down(found):
        say(f"{name}: removed")
    if args.group:
        servers.remove_network(args.group)
    if not found:
        say("there was nothing to remove")


def do_list(args: argparse.Namespace) -> None:
    """List this checkout's servers."""
    rows = []
    for container in servers.containers():
        labels = servers.labels_of(container)
        spec = json.loads(labels["spec"])
        rows.append({**spec, "address": labels["address"], "state": container["State"]})
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for row in sorted(rows, key=lambda r: (r["group"], r["name"])):
        print(
            f"{row['name']:32} {row['suite']:9} {row['address']:15} {row['state']:9} {row['group']}"
        )


def do_ssh(args: argparse.Namespace) -> None:
    """Run a command on a server, or a shell."""
    servers.replace_process(servers.load(args.name).ssh(*args.command))


def do_restart(args: argparse.Namespace) -> None:
    """Restart servers."""
    for name in args.name:
        servers.restart(name)
        say(f"{name}: restarted")


def do_inventory(args: argparse.Namespace) -> None:
    """Print or write an inventory."""
    names = args.name
    if args.group:
        names = [servers.labels_of(c)["name"] for c in servers.containers(group=args.group)]
    if not names:
        raise TestbedError("Say which servers: NAME..., or --group GROUP with servers in it.")
    found = [servers.load(name) for name in names]
    if args.ssh_config:
        write(args.ssh_config, "".join(f'Include "{s.ssh_config}"\n' for s in found))
    text = inventory(found)
    if args.output:
        write(args.output, text)
    else:
        print(text, end="")


def do_image(args: argparse.Namespace) -> None:
    """Make a server image."""
    print(images.server_image(args.suite))


def do_base_image(args: argparse.Namespace) -> None:
    """Make a base image for apps."""
    print(images.python_image(args.suite))


def do_prune(args: argparse.Namespace) -> None:
    """Remove what is not needed."""
    for what in servers.prune() + images.prune(everything=args.all):
        say(f"removed {what}")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(
        prog="python3 -m testbed", description="Bare Debian servers on this machine."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="bring servers up and wait until they answer over ssh")
    up.add_argument("name", nargs="+", metavar="NAME")
    up.add_argument("--suite", choices=SUITES, default=images.DEFAULT_SUITE)
    up.add_argument("--group", default="default", help="servers of a group share a network")
    up.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="DNSNAME",
        help="a further name by which servers of the group find it",
    )
    up.add_argument(
        "--publish",
        action="append",
        default=[],
        metavar="HOSTPORT:PORT",
        help="on this machine's loopback",
    )
    up.add_argument("--user", default="root", help="root (default), or debian who has sudo")
    up.add_argument(
        "--member-of",
        action="append",
        default=[],
        metavar="GROUP",
        help="an Ansible group in the inventory",
    )
    up.add_argument("--json", action="store_true", help="describe the servers on stdout")
    up.set_defaults(func=do_up)

    down = commands.add_parser("down", help="remove servers, their data and their network")
    down.add_argument("name", nargs="*", metavar="NAME")
    down.add_argument("--group")
    down.add_argument("--all", action="store_true", help="all of this checkout's servers")
    down.set_defaults(func=do_down)

    listing = commands.add_parser("list", help="this checkout's servers")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(func=do_list)

    ssh = commands.add_parser("ssh", help="a shell or a command on a server")
    ssh.add_argument("name", metavar="NAME")
    ssh.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    ssh.set_defaults(func=do_ssh)

    restart = commands.add_parser("restart", help="stop and start servers as a reboot does")
    restart.add_argument("name", nargs="+", metavar="NAME")
    restart.set_defaults(func=do_restart)

    listed = commands.add_parser("inventory", help="an Ansible inventory of servers")
    listed.add_argument("name", nargs="*", metavar="NAME")
    listed.add_argument("--group", help="all servers of a group")
    listed.add_argument(
        "--ssh-config", type=Path, metavar="FILE", help="write one for `ssh -F` there, for all"
    )
    listed.add_argument("--output", type=Path, help="write it there instead of printing it")
    listed.set_defaults(func=do_inventory)

    image = commands.add_parser("image", help="make a server image, print its tag")
    image.add_argument("suite", choices=SUITES)
    image.set_defaults(func=do_image)

    base = commands.add_parser("base-image", help="make a base image for apps, print its path")
    base.add_argument("suite", choices=SUITES)
    base.set_defaults(func=do_base_image)

    prune = commands.add_parser("prune", help="remove old images and what killed calls left")
    prune.add_argument("--all", action="store_true", help="current images too")
    prune.set_defaults(func=do_prune)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = parser().parse_args(arguments)
    try:
        args.func(args)
    except TestbedError as error:
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
