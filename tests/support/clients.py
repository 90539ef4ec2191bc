"""Clients of the SDK for a server on this machine: of either kind, over either HTTP library, for every platform."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anthropic
import pytest

if TYPE_CHECKING:
    from streamkit.testing import Server

PARAMS: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
OLD_SDK = anthropic.__version__.startswith("0.")
NEWEST_SDK = tuple(int(part) for part in anthropic.__version__.split(".")[:2]) >= (2, 12)
TLS_CONTEXT = ssl.create_default_context()  # loading the certificates takes longer than a test


def sdk_client(server: Server, **options: Any) -> anthropic.Anthropic:
    """A sync client for this server; without retries of its own, unless they are asked for."""
    http_client = anthropic.DefaultHttpxClient(verify=TLS_CONTEXT, trust_env=False)
    return server.client(http_client=http_client, **{"max_retries": 0, **options})


def async_sdk_client(server: Server, **options: Any) -> anthropic.AsyncAnthropic:
    """The same, async. Has to be closed."""
    http_client = anthropic.DefaultAsyncHttpxClient(verify=TLS_CONTEXT, trust_env=False)
    return server.async_client(http_client=http_client, **{"max_retries": 0, **options})


def aiohttp_client(server: Server, **options: Any) -> anthropic.AsyncAnthropic:
    """The same over aiohttp, which offers no socket. Has to be closed."""
    pytest.importorskip("httpx_aiohttp" if OLD_SDK else "aiohttp", reason="the SDK's extra is not installed")
    http_client = anthropic.DefaultAioHttpClient(verify=TLS_CONTEXT)
    return server.async_client(http_client=http_client, **{"max_retries": 0, **options})


def async_client_for(mode: str, server: Server, **options: Any) -> anthropic.AsyncAnthropic:
    """An async client for a mode: "asyncio", "trio" or "aiohttp". Has to be closed."""
    return (aiohttp_client if mode == "aiohttp" else async_sdk_client)(server, **options)


@contextlib.asynccontextmanager
async def client_for(mode: str, server: Server, **options: Any) -> AsyncIterator[Any]:
    """A client of the kind that a mode needs: "sync", "asyncio", "trio" or "aiohttp"."""
    if mode == "sync":
        yield sdk_client(server, **options)
        return
    async with async_client_for(mode, server, **options) as client:
        yield client


# The clients of the SDK for other clouds, each with the credentials that it requires, all of them made up.
PLATFORMS: dict[str, dict[str, Any]] = {
    "Bedrock": {"aws_access_key": "made-up", "aws_secret_key": "made-up", "aws_region": "nowhere-1"},
    "BedrockMantle": {"api_key": "made-up-key"},
    "AWS": {"api_key": "made-up-key", "workspace_id": "made-up-workspace"},
    "Vertex": {"access_token": "made-up-token", "project_id": "made-up-project", "region": "nowhere-1"},
    "GoogleCloud": {"token_provider": lambda: "made-up-token", "workspace_id": "made-up-workspace"},
    "Foundry": {"api_key": "made-up-key"},
}


@contextlib.asynccontextmanager
async def platform_client_for(mode: str, name: str, server: Server, **options: Any) -> AsyncIterator[Any]:
    """A client for a platform, of the kind that a mode needs; the platform's name is part of the class's name."""
    kind = getattr(anthropic, f"{'Async' if mode != 'sync' else ''}Anthropic{name}", None)
    if kind is None:
        pytest.skip(f"this SDK has no Anthropic{name}")
    if name == "Bedrock":
        pytest.importorskip("boto3", reason="Bedrock signs and decodes with boto3")
    http = anthropic.DefaultHttpxClient if mode == "sync" else anthropic.DefaultAsyncHttpxClient
    client = kind(
        **{"base_url": server.url, "max_retries": 0, **PLATFORMS[name], **options},
        http_client=http(verify=TLS_CONTEXT, trust_env=False),
    )
    try:
        yield client
    finally:
        closing = client.close()
        if mode != "sync":
            await closing


def connections_in_use(client: Any) -> list[Any]:
    """The connections in a client's pool that are not idle."""
    transport = client._client._transport
    if not hasattr(transport, "_pool"):  # aiohttp
        return [] if transport.client is None else list(transport.client.connector._acquired)
    return [one for one in transport._pool.connections if not one.is_idle()]


def open_connections_in_use(client: Any) -> list[Any]:
    """The same without those that were closed in use, which stay in the pool until the next request."""
    return [one for one in connections_in_use(client) if not getattr(one, "is_closed", bool)()]


def assert_no_connection_in_use(client: Any) -> None:
    assert connections_in_use(client) == []
