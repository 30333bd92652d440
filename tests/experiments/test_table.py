from html.parser import HTMLParser

from rich.console import Console

from prkd_mm.experiments.table import Table

TABLE = Table(['', 'top-1, %'], [['<KD>', '1.00'], ['PRKD & co', '2.50']], 'A title', ['', 'top-1'])


class Cells(HTMLParser):
    """Collects the text of each row's cells."""

    def __init__(self, page):
        super().__init__()
        self.rows = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == 'tr':
            self.rows.append([])
        elif tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_data(self, data):
        if data.strip():
            self.rows[-1][-1] += data


def test_markdown_aligns_numbers_to_the_right():
    assert TABLE.markdown().splitlines() == [
        '|  | top-1, % |',
        '| --- | ---: |',
        '| <KD> | 1.00 |',
        '| PRKD & co | 2.50 |',
    ]


def test_html_has_the_same_cells_with_special_characters_escaped():
    page = TABLE.html()
    assert Cells(page).rows == [['', 'top-1, %'], ['<KD>', '1.00'], ['PRKD & co', '2.50']]
    assert '<KD>' not in page


def test_the_screen_has_the_short_headings_and_the_title():
    console = Console(record=True, width=60)
    console.print(TABLE.screen())
    text = console.export_text()
    for word in ('A title', 'top-1', '<KD>', '2.50'):
        assert word in text
    assert 'top-1, %' not in text
