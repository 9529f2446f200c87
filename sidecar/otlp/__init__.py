"""OTLP doors: traces, metrics and logs of any OpenTelemetry exporter become events.

``mapping`` is the one table of what attributes mean; ``reading`` and ``json_form`` read requests; ``spans``, ``usage`` and
``calls`` decide what a span is and what it used; ``traces``, ``measurements`` and ``log_records`` make events of a request;
``http_door`` and ``grpc_door`` answer exporters, and ``doors`` opens both.
"""
