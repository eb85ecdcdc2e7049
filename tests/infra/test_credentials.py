"""No password of a URL appears in a message, whether it is written plainly, encoded, or by a driver."""

from __future__ import annotations

import json
import random
from urllib.parse import quote, quote_plus

import pytest
from sqlalchemy import make_url

from infra.credentials import hide, hide_in_urls
from infra.milvus.connection import MilvusConnection
from infra.settings import load
from infra.sql.database import parse_url
from infra.sql.failures import one_line
from schemas.errors import ConfigurationError, Unavailable

PASSWORDS = ["p@ss/wörd", "a b+c%20", "quote's\\and\"", "50%", "#?&=:;", "日本", "[x](y)*"]


def written(password: str) -> list[str]:
    """Returns the ways in which drivers and people write a password."""
    url = make_url("postgresql://u@h/d").set(password=password).render_as_string(hide_password=False)
    encoded = quote(password, safe="")
    lower = "".join(f"%{byte:02x}" for byte in password.encode())
    forms = [password, encoded, encoded.lower(), quote_plus(password), quote(password), lower, url]
    return [*forms, json.dumps(password, ensure_ascii=False)[1:-1]]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_is_hidden_in_every_form(password: str):
    for form in written(password):
        shown = hide(f"cannot connect with {form}, sorry", [password])
        assert password not in shown
        assert form == password or form not in shown
        assert shown.startswith("cannot connect with ")
        assert shown.endswith(", sorry")


@pytest.mark.parametrize("seed", range(200))
def test_no_form_of_any_password_is_left(seed: int):
    draw = random.Random(seed)
    characters = [chr(code) for code in (*range(33, 127), *range(0xA1, 0x250), *range(0x4E00, 0x4E80)) if code != 0xAD]
    password = "".join(draw.choices(characters, k=draw.randint(6, 20)))
    shown = hide(f"<{quote(password, safe='')}> <{quote_plus(password)}> <{password}>", [password])
    assert shown == "<***> <***> <***>"


def test_a_url_that_nobody_named_shows_no_password_either():
    assert hide_in_urls("see https://ada:p@ss@h:1/x and http://h/a:b") == "see https://ada:***@h:1/x and http://h/a:b"


@pytest.mark.parametrize("password", PASSWORDS)
def test_the_drivers_errors_show_none_of_a_sql_urls_password(password: str):
    url = make_url("postgresql+psycopg://u@h/d?sslpassword=hushhush").set(password=password)
    error = ValueError(f"bad dsn {url.render_as_string(hide_password=False)}\n and {quote_plus(password)} hushhush")
    shown = one_line(error, url)
    assert shown == "bad dsn postgresql+psycopg://u:***@h/d?sslpassword=*** and *** ***"


def test_a_password_whose_at_sign_is_not_encoded_is_refused_and_no_part_of_it_is_shown():
    with pytest.raises(ConfigurationError, match=r"holds an @ .* write it as %40") as refused:
        parse_url("postgresql://u:s3cr@et@host/db")
    assert "et@host" not in str(refused.value)


@pytest.mark.parametrize("uri", ["http://root:hush%21%21@127.0.0.1:9", "ftp://root:hush!!@h"])
def test_a_milvus_address_is_shown_without_its_password(uri: str):
    connection = MilvusConnection(uri, "hushtoken", lambda client: None)
    with pytest.raises((Unavailable, ConfigurationError)) as failed:
        connection.call(lambda client: None)
    assert "root:***@" in str(failed.value)
    assert "hush" not in str(failed.value)


def test_credentials_in_kafkas_address_are_refused(tmp_path):
    (tmp_path / "everlearn.toml").write_text('[kafka]\nbootstrap_servers = "ada:hush@kafka:9092"\n')
    with pytest.raises(ConfigurationError, match="bootstrap_servers holds credentials: write host:port alone") as wrong:
        load(tmp_path, environ={})
    assert "hush" not in str(wrong.value)
