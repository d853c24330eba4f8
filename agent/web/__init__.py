"""The web page: `anyloom web`, a Gradio chat."""
