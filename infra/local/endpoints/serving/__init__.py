"""What one model server is made of: engines, TensorFlow Serving's REST rules, handlers, batching, the application."""
