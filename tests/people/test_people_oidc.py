"""Signing in at an identity provider, and everything somebody in between may try."""

import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from oidc_provider import Claims, StandInProvider, query_of
from people_desk import HERE, PeopleDesk

from dayspring.accounts.people.oidc.claims import identity_of
from dayspring.accounts.people.oidc.provider import Client
from dayspring.accounts.people.oidc.service import Oidc, WayOut
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.sign_in import NewSession
from dayspring.contracts.clock import Clock, SystemClock
from dayspring.core.errors import Busy, Refused, SignInFailed, Unavailable
from dayspring.net.fetcher import Fetcher

BACK = "http://dayspring.example/v1/sign_in/oidc/callback"


@pytest.fixture
async def provider() -> AsyncIterator[StandInProvider]:
    made = StandInProvider()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher()
    yield made
    await made.close()


@pytest.fixture
def clock() -> Clock:
    """The provider's tokens are of now."""
    return SystemClock()


@pytest.fixture
def oidc(desk: PeopleDesk, provider: StandInProvider, fetcher: Fetcher) -> Oidc:
    client = Client(provider.url, "dayspring", "s3cret", BACK, "openid email")
    return Oidc(desk.db, desk.clock, desk.sign_in, client, fetcher)


async def at_the_provider(url: str) -> dict[str, str]:
    """What the person's browser brings back from there."""
    async with aiohttp.ClientSession() as browser, browser.get(url, allow_redirects=False) as answer:
        assert answer.status == 302
        assert answer.headers["Location"].startswith(BACK)
        return query_of(answer.headers["Location"])


async def back_with(oidc: Oidc, way: WayOut, brought: dict[str, str]) -> NewSession:
    return await oidc.finish(
        state=brought["state"], code=brought["code"], browser=way.browser, visitor=HERE, issuer=brought.get("iss")
    )


async def sign_in(oidc: Oidc) -> NewSession:
    way = await oidc.begin(HERE)
    return await back_with(oidc, way, await at_the_provider(way.url))


async def test_a_verified_email_links_the_user_and_later_the_identity_alone_counts(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider
) -> None:
    user = await desk.add("ann@acme.example")
    made = await sign_in(oidc)
    assert made.user.id == user.id
    assert (await desk.accounts.authenticate(made.token)).user_id == user.id
    provider.person = {"sub": "person-1", "email": "changed@elsewhere.example"}
    assert (await sign_in(oidc)).user.id == user.id
    assert provider.fetched.count("discovery") == provider.fetched.count("jwks") == 1, "both are remembered"


async def test_an_invited_person_becomes_a_user(desk: PeopleDesk, oidc: Oidc) -> None:
    await desk.people.invite(desk.in_acme, "Ann@acme.example", Role.VIEWER, ((desk.project.id, Role.MEMBER),))
    made = await sign_in(oidc)
    assert (made.user.name, made.user.role, made.user.organization_id) == ("Ann", Role.VIEWER, desk.organization.id)
    assert made.session.project_id == desk.project.id


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_email_that_is_not_verified_opens_nothing(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider, verified: object
) -> None:
    await desk.add("ann@acme.example")
    provider.person["email_verified"] = verified
    with pytest.raises(SignInFailed, match="Nobody here"):
        await sign_in(oidc)


async def test_an_identity_nobody_invited_gets_nothing(oidc: Oidc) -> None:
    with pytest.raises(SignInFailed, match="Nobody here"):
        await sign_in(oidc)


async def test_another_identity_does_not_take_over_a_linked_user(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider
) -> None:
    await desk.add("ann@acme.example")
    await sign_in(oidc)
    provider.person["sub"] = "somebody-else"
    with pytest.raises(SignInFailed, match="Nobody here"):
        await sign_in(oidc)


async def test_a_removed_user_stays_out(desk: PeopleDesk, oidc: Oidc) -> None:
    user = await desk.add("ann@acme.example")
    await sign_in(oidc)
    await desk.people.remove(None, user.id)
    with pytest.raises(SignInFailed, match="Nobody here"):
        await sign_in(oidc)


def _signatures() -> list[str]:
    return ["unsigned", "signed_with_the_public_key", "signed_by_a_stranger", "with_its_own_key"]


@pytest.mark.parametrize("forgery", _signatures())
async def test_a_forged_signature_is_refused(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider, forgery: str
) -> None:
    await desk.add("ann@acme.example")
    provider.sign = getattr(provider, forgery)
    with pytest.raises(SignInFailed, match="could not be verified"):
        await sign_in(oidc)


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "another-client"}, {"aud": ["dayspring", "another-client"]}, {"aud": []}, {"aud": None},
        {"aud": ["dayspring"], "azp": "another-client"},
        {"iss": "https://evil.example"}, {"iss": None}, {"nonce": "replayed"}, {"nonce": None},
        {"exp": int(time.time()) - 3600}, {"exp": None}, {"exp": "never"}, {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 300},
    ],
    ids=str,
)  # fmt: skip
async def test_a_token_that_is_not_for_us_now_is_refused(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider, wrong: Claims
) -> None:
    await desk.add("ann@acme.example")
    provider.change = lambda claims: {name: value for name, value in (claims | wrong).items() if value is not None}
    with pytest.raises(SignInFailed, match="could not be verified"):
        await sign_in(oidc)


async def test_a_token_signed_with_another_of_the_providers_keys_is_good(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider
) -> None:
    await desk.add("ann@acme.example")
    provider.sign = lambda claims: provider.honest(claims, provider.ec)
    assert (await sign_in(oidc)).user.email == "ann@acme.example"


async def test_a_new_key_of_the_provider_is_fetched_once(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider
) -> None:
    await desk.add("ann@acme.example")
    await sign_in(oidc)
    provider.sign = provider.signed_by_a_stranger
    for _ in range(3):
        with pytest.raises(SignInFailed):
            await sign_in(oidc)
    assert provider.fetched.count("jwks") == 1


async def test_the_way_back_counts_once_and_in_the_browser_that_began(desk: PeopleDesk, oidc: Oidc) -> None:
    await desk.add("ann@acme.example")
    way = await oidc.begin(HERE)
    brought = await at_the_provider(way.url)
    victim = await oidc.begin(HERE)
    with pytest.raises(SignInFailed, match="not begun in this browser"):
        await back_with(oidc, victim, brought)  # somebody else's link, opened in the victim's browser
    with pytest.raises(SignInFailed, match="not begun in this browser"):
        await back_with(oidc, way, brought)  # and it is spent
    way = await oidc.begin(HERE)
    brought = await at_the_provider(way.url)
    await back_with(oidc, way, brought)
    with pytest.raises(SignInFailed, match="not begun in this browser"):
        await back_with(oidc, way, brought)


@pytest.mark.parametrize("state", ["", "made-up", "%", "é" * 50])
async def test_a_state_that_was_never_given_is_refused(oidc: Oidc, state: str) -> None:
    way = await oidc.begin(HERE)
    with pytest.raises(SignInFailed, match="not begun in this browser"):
        await oidc.finish(state=state, code="code-0", browser=way.browser, visitor=HERE)


async def test_a_code_stolen_from_another_sign_in_does_not_fit(desk: PeopleDesk, oidc: Oidc) -> None:
    await desk.add("ann@acme.example")
    stolen = await at_the_provider((await oidc.begin(HERE)).url)
    mine = await oidc.begin(HERE)
    brought = await at_the_provider(mine.url)
    with pytest.raises(SignInFailed, match="did not take the code"):
        await back_with(oidc, mine, brought | {"code": stolen["code"]})


async def test_an_answer_of_another_issuer_is_refused(desk: PeopleDesk, oidc: Oidc) -> None:
    await desk.add("ann@acme.example")
    way = await oidc.begin(HERE)
    brought = await at_the_provider(way.url)
    with pytest.raises(SignInFailed, match="not begun in this browser"):
        await back_with(oidc, way, brought | {"iss": "https://evil.example"})


async def test_a_provider_that_names_itself_otherwise_is_not_used(oidc: Oidc, provider: StandInProvider) -> None:
    provider.named = "https://somebody.example"
    with pytest.raises(Unavailable, match="names itself otherwise"):
        await oidc.begin(HERE)


async def test_a_document_cannot_point_into_the_private_network(
    desk: PeopleDesk, oidc: Oidc, provider: StandInProvider
) -> None:
    await desk.add("ann@acme.example")
    way = await oidc.begin(HERE)
    brought = await at_the_provider(way.url)
    inner = oidc._provider
    assert inner._document is not None
    since, document = inner._document
    inner._document = since, msgspec.structs.replace(document, token_endpoint="http://127.0.0.2:9/token")
    with pytest.raises(Refused):
        await back_with(oidc, way, brought)


async def test_strangers_cannot_begin_without_end(oidc: Oidc) -> None:
    for _ in range(100):
        await oidc.begin(HERE)
    with pytest.raises(Busy):
        await oidc.begin(HERE)


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c", "a.b.c.d.e", "..", "é.é.é", "e30.e30.", "W10.e30.x", "x" * 100_000]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(SignInFailed):
        identity_of(token, [{"kty": "RSA"}, {}], issuer="https://a", client_id="b", nonce="c", now_s=0)
