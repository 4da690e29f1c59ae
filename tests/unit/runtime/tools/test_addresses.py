"""Which addresses steps may call: every spelling of one that is not public is refused."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tenuto.runtime.tools.addresses import AddressRefused, HostUnknown, refusal, safe_address

PUBLIC = "93.184.216.34"

REFUSED = {
    "loopback": ["127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1", "0x7F.0x0.0x0.0x1",
                 "0177.0.0.1", "017700000001", "0177.1", "[::1]", "::1", "0:0:0:0:0:0:0:1", "::1%lo"],
    "mapped": ["::ffff:127.0.0.1", "[::ffff:7f00:1]", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
               "::127.0.0.1"],
    "private": ["10.0.0.1", "10.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "0xc0a80101", "3232235777", "fc00::1", "fd12::1"],
    "link-local": ["169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "fe80::1", "fe80::1%eth0"],
    "shared": ["100.64.0.1", "100.100.100.200", "198.18.0.1"],
    "metadata by v6": ["fd00:ec2::254"],
    "unspecified": ["0.0.0.0", "0", "::", "0x0"],
    "multicast": ["224.0.0.1", "239.1.1.1", "ff02::1"],
    "broadcast and reserved": ["255.255.255.255", "240.0.0.1", "192.0.0.1", "192.0.2.1", "203.0.113.5", "2001:db8::1"],
    "translated": ["64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
}  # fmt: skip


async def never(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was resolved although it is an address")


@pytest.mark.parametrize("host", [host for hosts in REFUSED.values() for host in hosts])
async def test_an_address_that_is_not_public_is_refused_in_every_spelling(host: str):
    with pytest.raises(AddressRefused) as caught:
        await safe_address(host, 80, frozenset(), never)
    assert host in caught.value.message
    assert "TENUTO_HTTP_ALLOW" in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("host", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "[2606:4700:4700::1111]", "64:ff9b::8.8.8.8", "134744072"])
async def test_a_public_address_is_called_as_it_is(host: str):
    assert ip_address(await safe_address(host, 80, frozenset(), never)).is_global


def answers(*found: str):
    async def resolve(host: str, port: int) -> list[str]:
        return list(found)

    return resolve


@pytest.mark.parametrize("found", [("127.0.0.1",), (PUBLIC, "10.0.0.1"), ("10.0.0.1", PUBLIC), (PUBLIC, "::1"), ("::ffff:127.0.0.1",), ("fe80::1%eth0",)])
async def test_a_name_is_refused_when_any_of_its_addresses_is_not_public(found: tuple[str, ...]):
    with pytest.raises(AddressRefused, match=r"evil\.example"):
        await safe_address("evil.example", 80, frozenset(), answers(*found))


async def test_a_name_gives_its_first_public_address():
    assert await safe_address("good.example", 443, frozenset(), answers(PUBLIC, "8.8.8.8")) == PUBLIC


async def test_a_name_without_an_address_may_be_tried_again():
    with pytest.raises(HostUnknown) as caught:
        await safe_address("gone.example", 80, frozenset(), answers())
    assert caught.value.retryable


@pytest.mark.parametrize("allowed", ["localhost", "localhost:8080"])
async def test_a_listed_host_may_be_private(allowed: str):
    assert await safe_address("LOCALHOST", 8080, frozenset({allowed}), answers("127.0.0.1")) == "127.0.0.1"


async def test_a_listed_host_and_port_allows_no_other_port():
    with pytest.raises(AddressRefused):
        await safe_address("localhost", 22, frozenset({"localhost:8080"}), answers("127.0.0.1"))
    with pytest.raises(AddressRefused):
        await safe_address("localhost.evil.example", 8080, frozenset({"localhost"}), answers("127.0.0.1"))


async def test_a_listed_name_does_not_allow_its_address():
    with pytest.raises(AddressRefused):
        await safe_address("127.0.0.1", 80, frozenset({"localhost"}), never)
    assert await safe_address("127.0.0.1", 80, frozenset({"127.0.0.1"}), never) == "127.0.0.1"


@pytest.mark.parametrize("host", ["localhost.", "LOCALHOST"])
async def test_names_of_this_machine_are_refused_by_what_they_resolve_to(host: str):
    with pytest.raises(AddressRefused):
        await safe_address(host, 80, frozenset(), answers("127.0.0.1", "::1"))


def test_every_refusal_says_why():
    assert "loopback" in refusal(ip_address("127.0.0.1"))
    assert "metadata" in refusal(ip_address("169.254.169.254"))
    assert refusal(ip_address(PUBLIC)) == ""
