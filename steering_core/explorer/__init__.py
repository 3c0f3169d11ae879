"""The explorer: a page and its JSON API, to steer by hand beside the evidence. `steer explore` serves it.

`app` puts it together; `shield` is what stands before it; `accelerator` is the one thread that owns every model, and
its queue; `planned` turns a request into rows to sample; `ask` is the SQL box; `routes/` has one file a topic.
"""
