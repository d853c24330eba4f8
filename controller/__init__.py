"""The controller: it turns a request into a plan, chooses experts, and words the answer."""
