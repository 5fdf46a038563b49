"""A page as a reader without a browser sees it: its tables by their ids, its tags and their attributes."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """tables: id to rows of cells, the titles first. tags: in order, with their attributes. text: all of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._rows: list[list[str]] | None = None
        self._in_cell = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append((tag, known))
        if tag == "table":
            self._rows = self.tables.setdefault(known["id"] or "", [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th") and self._rows is not None:
            self._rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._in_cell and self._rows is not None:
            self._rows[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of a kind."""
        return [known for name, known in self.tags if name == tag]

    def counts(self, table: str, column: str, *by: str) -> dict[tuple[str, ...], int]:
        """The whole numbers of a column, by the texts of others."""
        titles, *rows = self.tables[table]
        places = [titles.index(name) for name in by]
        value = titles.index(column)
        return {tuple(row[k] for k in places): int(row[value].replace(",", "")) for row in rows}
