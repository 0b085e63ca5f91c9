"""The engine behind the embedded assistant: OpenVINO GenAI inside Triton's Python backend.

Lies beside config.pbtxt because Triton's stub puts the model's own directory on `sys.path`: a model
directory is complete in itself, whoever starts Triton. One process per model version.

How a request flows, a file each:

    triton_model   Triton's calls: copy the tensors, queue them, return at once
    admission      tensors -> a validated `Prompt`, or an error that names the number that is wrong
    guides         a JSON schema, regex or grammar is tried out in another process before it may
                   come near the engine (a bad one would poison every request in the batch)
    sampling       `Prompt` -> GenAI's generation config
    loop           one thread: admit, step the batch, read, send; the only one that touches GenAI
    sequence       tokens in, text out, for one request: detokenizer + stop words + counts
    responses      text, counts and log-probabilities -> Triton tensors

Pure, and tested without Triton or OpenVINO: admission, detokenize, stopping, sequence, settings.
"""
