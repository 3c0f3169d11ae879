"""`steer vectors`: the library of vectors, their quality and meaning, their algebra and their files.

A sub-verb is a function of a module here, and a line below, in the order of `steer vectors --help`.
"""

import typer

from steering_core.cli.vectors import blending, deriving, discovering, exchange, gate, looking, naming

app = typer.Typer(no_args_is_help=True, help="The library of vectors: quality, meaning, algebra, files.")
app.command("list")(looking.list_vectors)
app.command("show")(looking.show)
app.command("compare")(looking.compare)
app.command("chart")(looking.chart)
app.command("derive")(deriving.derive)
app.command("discover")(discovering.discover_features)
app.command("blend")(blending.blend)
app.command("gate")(gate.gate)
app.command("name")(naming.name)
app.command("tag")(naming.tag)
app.command("rm")(naming.rm)
app.command("export")(exchange.export_file)
app.command("import")(exchange.import_file)
app.command("pack")(exchange.pack_vectors)
app.command("unpack")(exchange.unpack_vectors)
