"""Who makes a request, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gooseherd.domain.job import Requester
from gooseherd.domain.source import SourceFile
from gooseherd.domain.visibility import EVERYTHING, PUBLIC_ONLY, Visibility


class Scope(StrEnum):
    """What a credential allows; each is given by itself, but `admin`, which allows all."""

    READ = "read"
    """See the entries of its collections that are not public, and what was made of them."""
    SUBMIT = "submit"
    """Start work: on those entries, as large batches, as sessions."""
    ADMIN = "admin"
    """Everything, for everybody."""


class Credential(StrEnum):
    """What a caller showed."""

    NONE = "none"
    ADMIN_KEY = "admin key"
    KEY = "key"
    TOKEN = "token"  # noqa: S105 - a kind of credential
    OIDC = "oidc"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request; worked out once, before anything is looked up for it.

    A credential adds to what anybody may do and takes nothing away.
    """

    credential: Credential = Credential.NONE
    name: str = ""
    """Of the credential, for the audit log: a key's id, never a secret."""
    owner: Requester | None = None
    """Whose jobs are theirs; None: the client's address stands for them."""
    scopes: frozenset[Scope] = frozenset()
    visible: Visibility = PUBLIC_ONLY

    @property
    def is_admin(self) -> bool:
        """Whether all is allowed."""
        return Scope.ADMIN in self.scopes

    @property
    def is_anonymous(self) -> bool:
        """Whether there was no credential."""
        return self.credential is Credential.NONE

    def may(self, scope: Scope) -> bool:
        """Whether the credential has the scope."""
        return scope in self.scopes or self.is_admin

    def sees(self, entry: SourceFile) -> bool:
        """Whether the entry and what was made of it may be shown: bytes, metadata, jobs alike."""
        return self.visible.shows(entry)

    def may_start_work_on(self, entry: SourceFile) -> bool:
        """Whether a job may be started. On a public entry anybody's may: a key takes nothing away."""
        return self.sees(entry) and (PUBLIC_ONLY.shows(entry) or self.may(Scope.SUBMIT))


ANONYMOUS: Final = Caller()


def admin(name: str, owner: Requester, credential: Credential = Credential.ADMIN_KEY) -> Caller:
    """A caller who may do everything."""
    return Caller(credential, name, owner, frozenset({Scope.ADMIN}), EVERYTHING)
