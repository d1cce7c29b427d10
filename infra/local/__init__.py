"""The embedded SageMaker: pipelines, jobs, a registry and endpoints that really run, on a laptop, without Docker.

It knows AWS's APIs and the pipeline definition JSON, and nothing of this project's pipelines: any definition runs on
it, from any client. moto answers for the services around SageMaker (S3, CloudWatch Logs, STS, IAM, EventBridge).

Modules, from the outside in::

    server      one HTTP server: SageMaker's calls go to `service`, the rest to moto
    service     the wire: JSON in and out, requests checked against botocore's own service model
    resources   models, packages, configurations, tags: the calls that only keep books
    pipelines   the pipeline calls;  definitions  checks what comes in;  executions  runs it
    expressions resolves Get, Join, JsonGet and conditions;  cache  answers steps from earlier executions
    job_calls   the job calls;  jobs  a job's life, of two kinds: processing, training
    container   one instance: /opt/ml, its process, its log;  objects  S3 to folders and back
    processes   child processes that end when they should
    endpoints   the endpoint calls;  variants  models as processes;  model_server  one such process
    store       the records, in SQLite
"""
