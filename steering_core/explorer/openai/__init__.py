"""OpenAI's API: what clients send (`fields`) and hear (`answer`, `answer_forms`); `names` and `tools` stand between."""
