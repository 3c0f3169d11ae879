"""What clients of OpenAI's API send (`fields`) and hear (`answer`, `forms`); `names` and `tools` stand between."""
