"""Pipelines: definitions checked, executed, cached, retried, and the calls on them.

From the outside in::

    calls        CreatePipeline to ListPipelineExecutionSteps
    definitions  checks what comes in
    executions   runs it;  steps  what each type of step does
    selection    which steps a selective execution runs;  retries  when a step is tried again
    expressions  resolves Get, Join, JsonGet and conditions;  scope  what they can see
    cache        answers steps from earlier executions
"""
