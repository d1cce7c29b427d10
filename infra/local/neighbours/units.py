"""The units in which S3 and CloudWatch Logs are saved, so that a call costs the same however much there is.

S3: a bucket's settings and tags; a key's versions and their tags; an upload and its parts. Logs: a stream, whose events
are pieces. The rest of these services is saved with their backends, like every other service.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from moto.logs import models as logs
from moto.s3 import models as s3
from moto.utilities.utils import get_partition

from infra.local.neighbours.pickles import Pickler, Place
from infra.local.neighbours.snapshots import Kind, Unit, note

_SEPARATOR = "\0"
"""Between names that may hold anything that can be typed."""


def _s3_bucket(place: Place, name: str) -> Any:
    backend = place.backend()
    return backend.buckets.get(name) or backend.table_buckets.get(name)


def _tags(place: Place, resources: list[Any]) -> dict[str, Any]:
    tags = place.backend().tagger.tags
    return {item.arn: tags[item.arn] for item in resources if getattr(item, "arn", None) in tags}


class Bucket(Kind):
    """A bucket without what is in it."""

    def find(self, unit: Unit) -> Any:
        """Return the bucket and its tags."""
        bucket = _s3_bucket(unit.place, unit.name)
        return bucket and (bucket, _tags(unit.place, [bucket]))

    def restore(self, unit: Unit, item: Any) -> None:
        """Put an empty bucket back."""
        bucket, tags = item
        backend = unit.place.backend()
        table = isinstance(bucket, s3.FakeTableStorageBucket)
        (backend.table_buckets if table else backend.buckets)[bucket.name] = bucket
        s3.s3_backends.bucket_accounts[bucket.name] = (bucket.partition, bucket.account_id)
        backend.tagger.tags.update(tags)


class Key(Kind):
    """All versions of one key."""

    def find(self, unit: Unit) -> Any:
        """Return the versions, markers among them, and their tags."""
        bucket, name = unit.name.split(_SEPARATOR)
        versions = getattr(_s3_bucket(unit.place, bucket), "keys", s3._VersionedKeyStore()).getlist(name)
        return versions and (versions, _tags(unit.place, versions))

    def restore(self, unit: Unit, item: Any) -> None:
        """Put the versions back."""
        bucket, name = unit.name.split(_SEPARATOR)
        versions, tags = item
        _s3_bucket(unit.place, bucket).keys.setlist(name, versions)
        unit.place.backend().tagger.tags.update(tags)


class Upload(Kind):
    """A multipart upload that is neither complete nor aborted."""

    def find(self, unit: Unit) -> Any:
        """Return the upload with its parts."""
        bucket, identifier = unit.name.split(_SEPARATOR)
        return getattr(_s3_bucket(unit.place, bucket), "multiparts", {}).get(identifier)

    def restore(self, unit: Unit, item: Any) -> None:
        """Put the upload back."""
        bucket, identifier = unit.name.split(_SEPARATOR)
        _s3_bucket(unit.place, bucket).multiparts[identifier] = item


class Stream(Kind):
    """A log stream, whose events come in pieces."""

    def find(self, unit: Unit) -> Any:
        """Return the state of the stream itself."""
        stream = self._stream(unit)
        return stream and {key: value for key, value in vars(stream).items() if key not in ("events", "log_group")}

    def restore(self, unit: Unit, item: Any) -> None:
        """Put the stream back without its events."""
        group, name = unit.name.split(_SEPARATOR)
        owner = unit.place.backend().groups[group]
        owner.create_log_stream(name)
        vars(owner.streams[name]).update(item)

    def news(self, unit: Unit) -> Any:
        """Return the events since the last time."""
        stream: Any = self._stream(unit)
        new = stream.events[getattr(stream, "saved_events", 0) :]
        stream.saved_events = len(stream.events)
        return [vars(event) for event in new]

    def append(self, unit: Unit, news: Any) -> None:
        """Put events back, and count on from their numbers."""
        stream: Any = self._stream(unit)
        for values in news:
            event = logs.LogEvent.__new__(logs.LogEvent)
            vars(event).update(values)
            stream.events.append(event)
            logs.LogEvent._event_id = max(logs.LogEvent._event_id, event.event_id + 1)
        stream.saved_events = len(stream.events)

    def _stream(self, unit: Unit) -> Any:
        group, name = unit.name.split(_SEPARATOR)
        return getattr(unit.place.backend().groups.get(group), "streams", {}).get(name)


KINDS = {"bucket": Bucket(), "key": Key(), "upload": Upload(), "stream": Stream()}
"""By the names that they have in the file, which are part of its layout."""


def _bucket(name: str, backend: Any) -> Unit:
    partition, account = s3.s3_backends.bucket_accounts.get(name, (backend.region_name, backend.account_id))
    return Unit(Place("moto.s3.models", "S3Backend", account, partition), "bucket", name)


def _in_bucket(kind: str, bucket: str, name: str, backend: Any) -> Unit:
    return Unit(_bucket(bucket, backend).place, kind, f"{bucket}{_SEPARATOR}{name}")


def _stream(group: Any, name: str) -> Unit:
    place = Place.of(logs.logs_backends[group.account_id][group.region])
    return Unit(place, "stream", f"{group.name}{_SEPARATOR}{name}")


def _keys_of(backend: Any, call: dict[str, Any]) -> list[Unit]:
    return [_in_bucket("key", call["bucket_name"], call["key_name"], backend)]


def _upload_of(backend: Any, call: dict[str, Any]) -> list[Unit]:
    bucket = call.get("dest_bucket_name") or call["bucket_name"]
    return [_in_bucket("upload", bucket, call["multipart_id"], backend)]


def _bucket_of(backend: Any, call: dict[str, Any]) -> list[Unit]:
    return [_bucket(call["bucket_name"], backend)]


def _whole_bucket_of(backend: Any, call: dict[str, Any]) -> list[Unit]:
    name = call["bucket_name"]
    held = backend.get_bucket(name)
    keys = [_in_bucket("key", name, key, backend) for key in held.keys]
    return [_bucket(name, backend), *keys, *(_in_bucket("upload", name, each, backend) for each in held.multiparts)]


def _new_bucket_of(_: Any, call: dict[str, Any]) -> list[Unit]:
    place = Place("moto.s3.models", "S3Backend", call["account_id"], get_partition(call["region_name"]))
    return [Unit(place, "bucket", call["name"])]


def _stream_of(group: Any, call: dict[str, Any]) -> list[Unit]:
    return [_stream(group, call["log_stream_name"])]


def _streams_of(backend: Any, call: dict[str, Any]) -> list[Unit]:
    group = backend.groups.get(call["log_group_name"])
    return [_stream(group, name) for name in group.streams] if group else []


@dataclass(frozen=True)
class _Noted:
    """Methods of moto's that change something, and what: the units, by the method's owner and arguments."""

    owner: Any
    methods: tuple[str, ...]
    units: Callable[[Any, dict[str, Any]], Iterable[Unit]]
    certainly: bool = True
    """Or only if the call at hand is one that changes things: what it asks for may then be what it changes."""


_NOTED = (
    _Noted(s3.S3Backend, ("put_object", "delete_object"), _keys_of),
    _Noted(s3.S3Backend, ("get_object",), _keys_of, certainly=False),
    _Noted(
        s3.S3Backend,
        ("upload_part", "upload_part_copy", "abort_multipart_upload", "complete_multipart_upload"),
        _upload_of,
    ),
    _Noted(s3.FakeBucket, ("__init__",), _new_bucket_of),
    _Noted(s3.S3Backend, ("get_bucket",), _bucket_of, certainly=False),
    _Noted(s3.S3Backend, ("delete_bucket", "delete_table_storage_bucket"), _whole_bucket_of),
    _Noted(logs.LogGroup, ("create_log_stream", "delete_log_stream", "put_log_events"), _stream_of),
    _Noted(logs.LogsBackend, ("delete_log_group",), _streams_of),
)

_CUTS: dict[type, Callable[[Any], dict[str, Any]]] = {
    s3.FakeBucket: lambda bucket: {**vars(bucket), "keys": s3._VersionedKeyStore(), "multiparts": s3.MultipartDict()},
    s3.S3Backend: lambda backend: {
        name: value for name, value in vars(backend).items() if name not in ("buckets", "table_buckets", "tagger")
    },
    logs.LogGroup: lambda group: {**vars(group), "streams": {}},
}
"""What is left of an object once its units are cut out of it."""


def install() -> None:
    """Make moto's S3 and Logs note what they change, and cut what they hold into units."""
    for noted in _NOTED:
        for method in noted.methods:
            _notice(noted, method)
    s3.S3Backend.create_multipart_upload = _create_multipart_upload
    Pickler.cuts.update({**_CUTS, s3.FakeTableStorageBucket: _CUTS[s3.FakeBucket]})


def _notice(noted: _Noted, name: str) -> None:
    """Let a method note its units before it does its work."""
    stock = getattr(noted.owner, name)
    signature = inspect.signature(stock)

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        for unit in noted.units(self, signature.bind(self, *arguments, **options).arguments):
            note(unit, noted.certainly)
        return stock(self, *arguments, **options)

    setattr(noted.owner, name, method)


_stock_create_upload = s3.S3Backend.create_multipart_upload


def _create_multipart_upload(backend: Any, bucket_name: str, *arguments: Any, **options: Any) -> Any:
    # What an upload is called is known only afterwards.
    upload = _stock_create_upload(backend, bucket_name, *arguments, **options)
    note(_in_bucket("upload", bucket_name, upload.id, backend))
    return upload
