"""A user's program: run by any major of the openai package that its interpreter has.

    python chat.py http://127.0.0.1:8080/v1

Prints one JSON object: the package's version, a unary answer, the same streamed, the models, an error.
"""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
ask = {"model": "assistant@v2", "messages": [{"role": "user", "content": "Count from 1 to 9."}]}
whole = client.chat.completions.create(**ask)
stream = client.chat.completions.create(**ask, stream=True)
try:
    client.chat.completions.create(model="none", messages=ask["messages"])
    error = ""
except openai.NotFoundError as refused:
    error = refused.code
print(
    json.dumps(
        {
            "package": openai.__version__,
            "whole": whole.choices[0].message.content,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
            "models": [model.id for model in client.models.list()],
            "error": error,
        }
    )
)
