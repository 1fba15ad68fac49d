"""Give the challenger a share of the records, or let it answer beside the champion: services follow within seconds."""

from __future__ import annotations

from ..base.errors import Parser, UserError
from ..model import fetch, live
from ..tracking import conventions, store
from . import champion_log, versions


def give(action: str, share: str, reason: str, version: str = "") -> str:
    """Log the challenger's new share, `ab` of the answers or `shadow` beside them, in the registry's log; returns a line that says so.

    A `version` becomes challenger first.

    Raises:
        UserError: the share is not valid, there is no challenger or no such version, or the reason is missing and the registry
            is shared.
    """
    try:
        new = float(share)
    except ValueError:
        new = -1
    if not 0 <= new <= 1:
        raise UserError(f"{share!r} is no share: give a number from 0 to 1, as make ab SHARE=0.1")
    name, said = conventions.model_name(), live.experiment(conventions.model_name())
    running = said.challenger if said.share or said.shadow else ""
    found = versions.model()
    waits = str(found.aliases.get(versions.CHALLENGER, "")) if found else ""
    challenger = version or running or waits
    if not challenger and len(store.connect().search_model_versions(f"name = '{name}'", max_results=2)) < 2:
        raise UserError("there is no second version that could be challenger: run `make pipeline` for one")
    if not challenger:
        raise UserError(
            f"there is no challenger: name one, as make {action} SHARE={share} VERSION=2 (make registry lists them)"
        )
    if new and versions.find(challenger).tags.get("status") == "archived":
        raise UserError(
            f"version {challenger} is archived: choose another one as challenger (make registry lists them)"
        )
    if challenger == said.champion:
        raise UserError(
            f"version {challenger} is champion: choose another one as challenger (make registry lists them)"
        )
    if not conventions.is_local() and not reason.strip():
        raise UserError('why? the others on this registry will ask: add REASON="to see it in use"')
    was = said.share if action == "ab" else said.shadow
    # The entry has the digest of the content, so that no other version, and no other files, ever get the share.
    digest = fetch.download(f"models:/{name}/{challenger}").digest if new else said.digest
    with store.errors():
        client = store.connect()
        champion_log.note(client, name, action, "", f"{was:g}", f"{new:g}", reason, version=challenger, digest=digest)
        if new:
            client.set_registered_model_alias(name, versions.CHALLENGER, challenger)
    if not new:
        return f"{'the A/B test' if action == 'ab' else 'the shadow'} of challenger {challenger} is over; services follow within ten seconds"
    does = "answers" if action == "ab" else "is asked too for"
    return f"challenger {challenger} {does} a share of {new:g} beside champion {said.champion}; services follow within ten seconds"


def main() -> None:
    """`make ab SHARE=0.1` and `make shadow SHARE=1`; without a share, print the current ones."""
    parser = Parser(prog="make ab", description=main.__doc__)
    parser.add_argument("action", choices=["ab", "shadow"])
    parser.add_argument("--share", default="", help="of the records, from 0 to 1 (SHARE=0.1)")
    parser.add_argument("--version", default="", help="the version to make challenger (VERSION=2)")
    parser.add_argument("--reason", default="", help='why (REASON="to see it in use")')
    given = parser.parse_args()
    if given.share:
        print(give(given.action, given.share, given.reason, given.version))
        return
    said = live.experiment(conventions.model_name())
    print(f"champion {said.champion or 'none'}, challenger {said.challenger or 'none'}: share {said.share:g}, shadow {said.shadow:g}")  # fmt: skip
