"""The embedded SageMaker: pipelines, jobs, a registry and endpoints that really run, on a laptop, without Docker.

It knows AWS's APIs and the pipeline definition JSON, and nothing of this project's pipelines: any definition runs on
it, from any client. moto answers for the services around SageMaker (S3, CloudWatch Logs, STS, IAM, EventBridge).

From the outside in::

    control     starts and stops the server as a process of its own
    server      one HTTP server: SageMaker's calls go to `service`, the rest to `neighbours`
    service     the wire: JSON in and out, requests checked against botocore's own service model
    resources   models, packages, configurations, tags: the calls that only keep books
    pipelines/  definitions checked, executed, cached, retried
    jobs/       processing, training and transform jobs under the container contract
    endpoints/  variants as processes that serve their model archives
    events/     what happens, told through EventBridge's rules to their targets
    stacks/     CloudFormation: the resource types that moto leaves out, and updates
    neighbours/ moto, and how what it holds outlives the process
    clock       AWS's minutes as seconds;  minutes  what happens once in each of them
    processes   child processes that end when they should
    store       SageMaker's own records, in SQLite
"""
