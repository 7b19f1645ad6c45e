"""Where packets end decides, in every spelling."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayspring.core.errors import Refused
from dayspring.net.addresses import address_is_public, check_address
from dayspring.net.locations import bare, location, origin, redirected

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3", "192.0.0.8", "198.18.0.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "::1", "::", "fe80::1",
    "fd00:ec2::254", "fc00::1", "ff02::1", "2001:db8::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::", "::7f00:1", "::a00:1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo to 127.0.0.1: the client's address is stored inverted
    "2606:4700::5efe:a00:1", "2606:4700::200:5efe:7f00:1", "3fff::1", "5f00::1", "100::1",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_of_the_public_internet_is_refused_to_a_stranger(address: str) -> None:
    assert not address_is_public(address)
    with pytest.raises(Refused):
        check_address(address, "host", private=False, allow_loopback=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_passes(address: str) -> None:
    assert address_is_public(address)
    check_address(address, "host", private=False, allow_loopback=False)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "0.0.0.0", "224.0.0.1",
     "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fd20:ce::254"],
)  # fmt: skip
def test_even_the_operator_reaches_no_metadata_service(address: str) -> None:
    with pytest.raises(Refused):
        check_address(address, "host", private=True, allow_loopback=True)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_counts_as_itself(inner: ipaddress.IPv4Address) -> None:
    mapped = [f"::ffff:{inner}", f"64:ff9b::{inner}", f"2002:{int(inner) >> 16:x}:{int(inner) & 0xFFFF:x}::1"]
    assert {address_is_public(text) for text in mapped} == {address_is_public(str(inner))}


SPELLINGS = [
    "https://2130706433/", "https://0x7f000001/", "https://0x7f.0.0.1/", "https://0177.0.0.1/", "https://127.1/",
    "https://127.0.1/", "https://017700000001/", "https://127.0.0.1./", "https://0/", "https://0x/",
    "https://1.2.3.0x7f/", "https://00000177.0.0.01/", "https://127.0.0.1:443/", "https://localhost/",
    "https://LOCALHOST./", "https://a.localhost/", "https://printer.local/", "https://metadata.google.internal/",
    "https://metadata.google.internal./", "https://127。0。0。1/", "https://127．0．0．1/", "https://①②⑦.0.0.1/",
    "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[0:0:0:0:0:ffff:7f00:1]/", "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/", "https://[::1%25lo]/", "https://user@127.0.0.1/", "https://router.lan/",
]  # fmt: skip


@pytest.mark.parametrize("url", SPELLINGS)
def test_no_spelling_of_a_private_address_passes(url: str) -> None:
    with pytest.raises(Refused):
        location(url)


DISPUTED = [
    "https://example.com\\@127.0.0.1/", "https://example.com\\.evil.example/", "https://user:pw@example.com/",
    "https://@example.com/", "https://:@example.com/", "https://example.com@evil.example/", "https:///example.com/",
    "https:example.com", "https://exa mple.com/", "https://example.com\t/", "https://exam\nple.com/", "\x00https://a/",
    " https://example.com/", "https://exa%6dple.com/", "https://example.com%2f@evil/", "https://[::1", "https://::1/",
    "https://example.com:99999/", "https://example.com:0/", "https://example.com:port/", "https://-a.example/",
    "https://a..example%00/", "//example.com/", "example.com", "", "https://", "https://example.com:80:443/",
    "https://" + "a" * 254 + ".example/", "https://example.com/" + "a" * 9000,
]  # fmt: skip


@pytest.mark.parametrize("url", DISPUTED)
def test_what_two_readers_could_take_differently_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        location(url)


@pytest.mark.parametrize("scheme", ["http", "ftp", "file", "gopher", "data", "ws", "HTTP", "unix", "blob"])
def test_a_stranger_fetches_over_https_only(scheme: str) -> None:
    with pytest.raises(Refused, match="HTTPS"):
        location(f"{scheme}://example.com/")


def test_the_operator_may_use_plain_http_and_a_private_network_and_no_other_scheme() -> None:
    assert location("http://10.0.0.1:81/", private=True).port == 81
    with pytest.raises(Refused):
        location("ftp://10.0.0.1/", private=True)


@pytest.mark.parametrize("port", [1, 21, 22, 25, 110, 143, 445, 587, 993, 2049, 6000, 6379, 6667, 11211])
def test_a_port_of_another_protocol_is_refused(port: int) -> None:
    with pytest.raises(Refused, match="port"):
        location(f"https://example.com:{port}/")


@pytest.mark.parametrize("port", [443, 80, 8443, 8080, 3000, 65535])
def test_a_port_that_files_are_served_from_passes(port: int) -> None:
    assert location(f"https://example.com:{port}/").port == port


@given(st.text(max_size=60))
def test_an_address_is_refused_or_read_the_same_twice(text: str) -> None:
    """What was checked is what is connected to, however odd the text."""
    try:
        url = location("https://" + text)
    except Refused:
        return
    again = location(str(url))
    assert (again.raw_host, again.port, again.scheme) == (url.raw_host, url.port, url.scheme)
    assert url.raw_host
    assert not url.user


@given(st.text(max_size=60))
def test_a_redirect_is_refused_or_stays_within_the_rules(place: str) -> None:
    try:
        url = redirected(location("https://example.com/a/b"), place, private=False, allow_loopback=False)
    except Refused:
        return
    assert url.scheme == "https"
    assert location(str(url)) == url


@pytest.mark.parametrize(
    "place",
    ["http://example.com/", "//127.0.0.1/", "https://[::1]/", "http:/\\127.0.0.1", "\\\\127.0.0.1\\", "file:///etc",
     "https://a@b/", "//169.254.169.254/latest"],
)  # fmt: skip
def test_a_redirect_out_of_bounds_is_refused(place: str) -> None:
    with pytest.raises(Refused):
        redirected(location("https://example.com/a"), place, private=False, allow_loopback=False)


def test_one_origin_has_one_spelling() -> None:
    assert origin(location("https://EXAMPLE.com:443/a")) == origin(location("https://example.com./b"))
    assert origin(location("https://example.com/")) != origin(location("https://example.com:8443/"))


def test_a_message_shows_no_secret_of_an_address() -> None:
    assert bare("https://name:word@host.example/a?token=secret#part") == "https://host.example/a"
    with pytest.raises(Refused) as caught:
        location("ftp://name:word@host.example/a?token=secret")
    assert not {"word", "secret"} & set(caught.value.message.replace("?", " ").replace(":", " ").split())
