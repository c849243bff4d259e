"""How records look in notebooks: what is drawn, and what stays live."""

from __future__ import annotations

from dataclasses import dataclass

from gooseherd.client.models.model import Model


@dataclass(frozen=True, eq=False)
class Shown(Model):
    """Shown as HTML where that can be."""

    def _repr_html_(self) -> str:
        from gooseherd.client.notebook.snapshot import html_of

        return html_of(self)


@dataclass(frozen=True, eq=False)
class Live(Shown):
    """What goes on after it was read: a notebook's output of it is updated until it has ended."""

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return True

    def _ipython_display_(self) -> None:
        from gooseherd.client.notebook.live import display_live

        display_live(self)
