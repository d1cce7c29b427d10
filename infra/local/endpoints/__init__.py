"""Endpoints: variants as processes that serve their model archives, and the calls on them.

From the outside in::

    calls        CreateEndpoint to DeleteEndpoint, and the checks before anything changes
    invocations  InvokeEndpoint;  metrics  and  capture  what it tells CloudWatch and S3
    hosting      what runs behind the records;  rollouts  one update;  plans  its steps
    scaling      as many instances as a policy asks for
    fleets       the instances of one configuration
    variants     a model archive as a process;  model_server  that process
"""
