"""The services around SageMaker, which moto answers, and how what moto holds outlives the process."""
