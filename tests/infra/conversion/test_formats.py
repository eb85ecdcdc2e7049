"""Each format becomes Markdown with its headings, lists and tables, or is refused in words that say why."""

from __future__ import annotations

import pytest

from infra.conversion.archives import check_archive
from infra.conversion.document import Converted, Unreadable, decode_utf8
from infra.conversion.docx import convert_docx
from infra.conversion.html import convert_html
from infra.conversion.pdf import convert_pdf
from infra.conversion.pptx import convert_pptx
from infra.conversion.tables import convert_csv, convert_json
from infra.conversion.xlsx import convert_xlsx
from tests.infra.documents import bomb, docx, pdf, pptx_file, xlsx, zipped

PASSWORD = "^is protected by a password: save it without one$"


def test_html_keeps_what_a_reader_sees():
    page = """<html><head><title>Other</title><style>p {}</style></head><body><nav><h2>Home</h2></nav>
    <h1> </h1><script>x()</script>    <h1>Refund  <i>policy</i></h1><p>Use snake_case, <a href="/in">inside</a> or <a href="https://a.b/c">outside</a>.
    <ul><li>one<li>two</ul><img src="data:image/png;base64,AA" alt="a map">
    <table><tr><td>k|l<td>v<tr><td>1<td>2</table></body></html>"""
    found = convert_html(page.encode())
    assert found.title == "Refund policy"
    assert [line.strip() for line in found.text.splitlines() if line.strip()] == [
        "# Refund *policy*",
        "Use snake_case, inside or [outside](https://a.b/c).",
        "- one",
        "- two",
        "a map",
        "| k\\|l | v |",
        "| --- | --- |",
        "| 1 | 2 |",
    ]


def test_an_html_page_without_a_heading_has_the_title_of_its_head():
    assert convert_html(b"<title>The\n title</title><p>x").title == "The title"
    assert convert_html(b"<p>x").title is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<meta charset=windows-1251><p>Привет".encode("cp1251"), "Привет"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>5 €'.encode("cp1252"), "5 €"),
        ("<p>Grüße".encode(), "Grüße"),
        ("<meta charset=utf-8><p>Grüße".encode("utf-8-sig"), "Grüße"),
        ("<p>Grüße".encode("utf-16"), "Grüße"),
    ],
)
def test_html_is_read_in_the_charset_that_it_declares(raw: bytes, text: str):
    assert convert_html(raw).text.strip() == text


NO_CHARSETS = [
    *("base64_codec", "base64", "rot13", "rot_13", "zip_codec", "bz2", "hex_codec", "uu_codec", "quopri_codec"),
    *("unicode_escape", "raw_unicode_escape", "idna", "punycode", "utf-7", "utf-16", "utf_32_be", "undefined", "mbcs"),
    *("cp037", "palmos", "klingon", "", "x" * 500, "utf-8; DROP"),
]


@pytest.mark.parametrize("charset", NO_CHARSETS)
def test_what_is_no_charset_of_web_pages_counts_as_if_it_were_not_declared(charset: str):
    page = f'<meta charset="{charset}"><p>Grüße, aGVsbG8= \\u0041 +AGE- xn--a 日本語'
    assert convert_html(page.encode()).text.strip() == "Grüße, aGVsbG8= \\u0041 +AGE- xn--a 日本語"


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        *(("ISO-8859-15", "iso8859-15"), ("l2", "iso8859-2"), ("windows-1254", "cp1254"), ("koi8-u", "koi8-u")),
        *(("x-sjis", "cp932"), ("euc-jp", "euc-jp"), ("gb2312", "gb2312"), ("GB18030", "gb18030"), ("big5", "big5")),
        *(("windows-949", "cp949"), ("iso-2022-jp", "iso2022-jp"), ("macintosh", "mac-roman")),
    ],
)
def test_the_charsets_of_web_pages_are_read(declared: str, codec: str):
    text = {"koi8-u": "Привіт", "cp949": "가나", "gb2312": "你好", "gb18030": "你好", "big5": "你好"}.get(codec)
    text = text or ("日本" if codec in ("cp932", "euc-jp", "iso2022-jp") else "Grüße")
    assert convert_html(f"<meta charset={declared}><p>{text}".encode(codec)).text.strip() == text


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"<p>caf\xe9", "^byte 7 is not UTF-8$"),
        (b"<meta charset=shift_jis><p>\xff\xff", "^is not in the charset that it declares, shift_jis: save it as"),
        (b"<meta charset=klingon><p>caf\xe9", "^byte 29 is not UTF-8$"),
    ],
)
def test_html_in_no_charset_is_refused(raw: bytes, reason: str):
    with pytest.raises(Unreadable, match=reason):
        convert_html(raw)


def test_a_pdfs_larger_lines_are_headings_and_its_gaps_paragraphs():
    found = convert_pdf(
        pdf(
            (24, 720, "Refund policy"),
            (12, 680, "A refund takes"),
            (12, 666, "three work-"),
            (12, 652, "ing days."),
            (12, 620, "# 1 counts"),
            (12, 606, "as well."),
            (16, 570, "Exceptions"),
            (12, 540, "None."),
            title="Untitled 1",
        )
    )
    assert found.text.split("\n\n") == [
        "# Refund policy",
        "A refund takes\nthree working days.",
        "\\# 1 counts\nas well.",
        "## Exceptions",
        "None.",
    ]
    assert found.title == "Refund policy"


def test_a_pdf_without_headings_has_its_own_title():
    assert convert_pdf(pdf((12, 700, "Some text"), title="Report")) == Converted("Some text", "Report")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (pdf((12, 700, "x"), encrypted=True), PASSWORD),
        (pdf(), "^holds no text: where it is a scan"),
        (pdf((12, 700, "x")).replace(b"Kids[3 0 R]", b"Kids[9 0 R]"), "^page 1 is damaged: save it again$"),
        (b"%PDF-1.7 and then nothing", "^is damaged, or no .pdf file$"),
        (b"plain text", "^is damaged, or no .pdf file$"),
    ],
)
def test_a_pdf_without_text_is_refused(raw: bytes, reason: str):
    with pytest.raises(Unreadable, match=reason):
        convert_pdf(raw)


def test_a_docx_keeps_its_headings():
    assert convert_docx(docx("One.", "Two.", heading="Head", title="Other")) == Converted(
        "# Head\n\nOne.\n\nTwo.", "Head"
    )
    assert convert_docx(docx("One.", title="Report")) == Converted("One.", "Report")


def test_a_presentation_is_a_heading_a_slide_with_its_points_table_and_notes():
    found = convert_pptx(pptx_file())
    assert found.title == "Refunds"
    assert found.text.split("\n\n") == [
        "## Refunds",
        "- Within three days\n  - not on Sundays",
        "| Country | Days |\n| --- | --- |\n| France | 3 |",
        "Notes: Say it slowly.",
        "The end",
    ]


def test_a_workbook_is_a_table_a_sheet_and_has_no_title_but_its_own():
    raw = xlsx(Prices=[["what", "price", None], ["a|b", 2.0], [None], ["c", 0.5]], Empty=[], More=[["x"], [True]])
    prices = "## Prices\n\n| what | price |\n| --- | --- |\n| a\\|b | 2 |\n| c | 0.5 |\n"
    assert convert_xlsx(raw) == Converted(f"{prices}\n## More\n\n| x |\n| --- |\n| True |\n")
    assert convert_xlsx(xlsx(title="Price list", A=[["x"]])).title == "Price list"


def test_csv_is_a_table_by_whichever_delimiter_it_has():
    assert convert_csv(b'\xef\xbb\xbfa;b\r\n"1,5";"two\nlines"\r\n;\r\n').text == (
        "| a | b |\n| --- | --- |\n| 1,5 | two lines |"
    )
    assert convert_csv(b"a\tb\n").text == "| a | b |\n| --- | --- |"
    assert convert_csv(b"alone\n").text == "| alone |\n| --- |"


def test_json_is_a_nested_list():
    found = convert_json('{"title": "Käse", "kinds": [{"name": "Brie", "age": 3}, "Gouda"], "none": {}}'.encode())
    assert found == Converted(
        "- title: Käse\n- kinds:\n  -\n    - name: Brie\n    - age: 3\n  - Gouda\n- none: {}", "Käse"
    )
    assert convert_json(b'"only text"').text == "only text"
    assert convert_json(b"{}").text == ""


@pytest.mark.parametrize(
    ("convert", "raw", "reason"),
    [
        (convert_csv, b"a,b\n\xff,2", "^byte 5 is not UTF-8$"),
        (convert_csv, "a,b".encode("utf-16"), "^is UTF-16: save it as UTF-8$"),
        (convert_json, b'{"a": }', "^is not JSON: Expecting value at line 1, column 7$"),
        (convert_json, b'{"a": "\xff"}', "^byte 8 is not UTF-8$"),
        (convert_docx, b"plain text", "^is damaged, or no .docx file: File is not a zip file$"),
        (convert_xlsx, bytes.fromhex("d0cf11e0a1b11ae1") + "EncryptedPackage".encode("utf-16-le"), PASSWORD),
        (
            convert_docx,
            bytes.fromhex("d0cf11e0a1b11ae1"),
            "^is in an older format than its name says: save it as .docx$",
        ),
        (convert_csv, b"x" * 2_000_001, "^makes more than 2,000,000 characters of text: split it$"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(convert, raw: bytes, reason: str):
    with pytest.raises(Unreadable, match=reason):
        convert(raw)


def test_text_is_utf8_without_nul():
    assert decode_utf8("\ufeffGrüße".encode()) == "Grüße"
    with pytest.raises(Unreadable, match=r"^holds NUL bytes, so it is not a text file$"):
        decode_utf8(b"MZ\0\1")


@pytest.mark.parametrize("declared", [None, 1000], ids=["declared", "hidden"])
def test_an_archive_that_inflates_beyond_its_bound_is_refused_whatever_it_declares(declared: int | None):
    with pytest.raises(Unreadable, match=r"^inflates to more than 3 MB, as a zip bomb would$"):
        check_archive(bomb(4, declared), ".docx", 3 * 1024**2)
    check_archive(bomb(4, declared), ".docx", 5 * 1024**2)


def test_an_archives_members_count_together():
    half = b"a" * 600_000
    with pytest.raises(Unreadable, match=r"^inflates to more than 1 MB"):
        check_archive(zipped({"a": half, "b": half}), ".xlsx", 1024**2)


def test_a_damaged_archive_is_refused():
    raw = bytearray(zipped({"a": bytes(range(256)) * 100}))
    raw[60:80] = b"\xff" * 20
    with pytest.raises(Unreadable, match=r"^is damaged, or no .xlsx file: "):
        check_archive(bytes(raw), ".xlsx")
