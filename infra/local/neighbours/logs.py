"""What moto's CloudWatch Logs leaves out: it takes ``logStreamNamePrefix`` and filters nothing by it."""

from __future__ import annotations

import json

from moto.logs.responses import LogsResponse

_stock_filter_log_events = LogsResponse.filter_log_events


def _filter_log_events(response: LogsResponse) -> str:
    """Answer FilterLogEvents; a prefix becomes the names of the streams that begin with it."""
    request = json.loads(response.body)
    prefix = request.pop("logStreamNamePrefix", None)
    group = response.logs_backend.groups.get(request.get("logGroupName"))
    if prefix and group is not None:
        names = [name for name in group.streams if name.startswith(prefix)]
        if not names:
            # To moto no name means every stream.
            return json.dumps({"events": [], "searchedLogStreams": []})
        response.body = json.dumps({**request, "logStreamNames": names})
    return str(_stock_filter_log_events(response))


def install() -> None:
    """Put it into moto."""
    LogsResponse.filter_log_events = _filter_log_events
