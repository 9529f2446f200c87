"""What became of commands, in words. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from agent_manager.cli import readable
from agent_manager.cli.readable import duration
from schemas.commands import CommandResponse

_DONE: Final = {"start": "started", "stop": "stopped", "restart": "restarted", "recover": "recovered"}


def _fault(result: Mapping[str, Any], now: datetime) -> str:
    fault = result.get("fault")
    until = readable.instant(fault.get("until")) if isinstance(fault, Mapping) else None
    if not isinstance(fault, Mapping) or until is None:
        return "fault injected"
    left = duration(round((until - now).total_seconds()))
    return f"{fault.get('kind')} fault injected, ends by itself in {left} (at {readable.short_clock(until, now)})"


def _cleared(result: Mapping[str, Any]) -> str:
    gone = result.get("cleared")
    if not isinstance(gone, list):
        return "faults cleared"
    left = result.get("active") or []
    told = f"cleared {', '.join(map(str, gone))}" if gone else "there was no fault to clear"
    return f"{told}; still there: {', '.join(map(str, left))}" if left else told


def _lifecycle(command: str, result: Mapping[str, Any]) -> str:
    if result.get("already_running"):
        told = "was running already"
    elif result.get("already_stopped"):
        told = "was stopped already"
    else:
        told = _DONE.get(command, command)
    facts = []
    if (pid := result.get("agent_pid") or result.get("pid")) is not None:
        facts.append(f"pid {pid}")
    if result.get("proxy_url"):
        facts.append(f"at {result['proxy_url']}")
    if isinstance(result.get("took_s"), int | float):
        facts.append(f"HEALTHY after {duration(result['took_s'])}")
    if result.get("cleared"):
        facts.append(f"faults cleared: {', '.join(map(str, result['cleared']))}")
    return f"{told} ({', '.join(facts)})" if facts else told


def _registry(command: str, result: Mapping[str, Any]) -> str:
    """What a command did, or would do, to the registry."""
    version, fields = result.get("version"), result.get("changed") or []
    changed = f" (changed: {', '.join(map(str, fields))})" if fields else ""
    match command:
        case "register" | "update":
            told = f"version {version} registered{'' if result.get('current') else ', what is current stays'}{changed}"
        case "delete":
            told = "deleted; its history stays"
        case "promote":
            checks = result.get("checks") or []
            stays = result.get("would_pass") is False
            told = f"version {version} {'stays at' if stays else 'promoted from'} {result.get('from')}"
            told += "" if stays else f" to {result.get('to')}"
            told += "".join(
                f"\n  {'ok' if one.get('passed') else 'NO'}  {one.get('name')}: {one.get('message')}" for one in checks
            )
        case _:
            told = f"version {version} in place of {result.get('previous')}{changed}"
            told += f", on trial until {result['until']}" if result.get("until") else ""
            told += "; it runs at its next start" if result.get("restarted") is False else ""
    return f"nothing done; would be: {told}" if result.get("dry_run") else told


_REGISTRY: Final = frozenset({"register", "update", "delete", "promote", "rollback", "canary"})


def _success(command: str, result: Mapping[str, Any], now: datetime) -> str:
    match command:
        case "inject_fault":
            return _fault(result, now)
        case "clear_faults":
            return _cleared(result)
        case "set_healing":
            return f"self-healing {'on' if result.get('healing_enabled') else 'off'}"
        case "set_maintenance":
            until = readable.instant(result.get("maintenance_until"))
            return "maintenance ended" if until is None else f"left alone until {readable.short_clock(until, now)}"
        case _ if command in _REGISTRY:
            return _registry(command, result)
        case _:
            return _lifecycle(command, result)


def sentence(response: CommandResponse) -> str:
    """``chat-service: restarted (pid 812)``, or why not and what to do."""
    if response.status == "success":
        return f"{response.agent_id}: {_success(response.command, response.result or {}, response.timestamp)}"
    error = response.error
    why = f"{error.code}: {error.message}" if error is not None else "no reason given"
    if error is not None and error.code == "timeout" and "no answer" in error.message:
        why += ". Is the agent manager running? See `agentops doctor`"
    return f"{response.agent_id}: {response.command} failed – {why}"
