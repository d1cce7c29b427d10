"""Jobs: processing, training and transform jobs as processes under the container contract.

From the outside in::

    calls       CreateProcessingJob to StopTransformJob
    job         a job's life, whatever its kind;  processing, training, transform  what differs
    container   one instance: /opt/ml, its process, its log
    objects     from S3 to folders and back
"""
