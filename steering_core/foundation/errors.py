"""Every error that steerflow raises on purpose.

    SteerflowError
    ├── SpecError            a spec (YAML) that cannot be run; carries every fault at once
    ├── SamplingError        texts that cannot be drawn in that way
    │   └── GrammarError     a form of answers (JSON, a schema) that a model's texts cannot be held to
    ├── ConceptError         a concept file that cannot be read or used
    ├── CapabilityError      a set of questions or tasks that cannot be read or used
    ├── ModelError
    │   ├── ModelNotFound    no such embedded model, folder or hub repository
    │   │   ├── ModelGated      a hub repository that asks for terms to be accepted, or for another token
    │   │   └── HubUnreachable  a hub that does not answer, which time may mend
    │   ├── ModelUnsupported an architecture whose blocks cannot be tapped, or files that MLX does not read
    │   ├── ModelDamaged     a model's file that is cut short, is missing or cannot be read
    │   ├── ModelRunsCode    a model that loads only by running Python of its own
    │   ├── ModelTooLarge    a model whose weights do not fit into memory
    │   ├── LayerNotFound    a layer outside 0 .. n_layers - 1
    │   ├── SiteNotFound     a site that does not exist, or that this architecture's blocks do not have
    │   ├── PositionUnknown  a position that names no tokens
    │   ├── PromptError      a prompt that is empty, beyond the model's context or its vocabulary
    │   │   └── TemplateError    a conversation that the model's chat template refuses
    │   ├── NoGradient       a model that MLX cannot differentiate
    │   └── TapNotFired      a steered or captured block that the forward pass never called
    ├── InterventionError    an intervention that cannot be parsed or does not fit the model
    │   └── NotBakeable      an intervention that no weights, or not those of this architecture, can hold
    ├── VectorError
    │   ├── VectorNotFound   no such vector in the store
    │   ├── VectorAmbiguous  a name that several vectors go by
    │   ├── VectorMismatch   a vector of another model, width or layer
    │   └── VectorFileError  a vector file that cannot be read or written
    ├── OutputError          a report that cannot be written where it should be
    ├── SettingError         an environment variable that cannot be read, or names a folder that cannot be used
    ├── PackageMissing       an optional package that is not installed
    ├── EndpointError        a server of OpenAI's form that cannot be used
    ├── JudgeUntrusted       a judge that rates texts of known quality wrongly
    ├── WordUnknown          a verb or a word that there is not
    ├── RunIncomplete        some cells of a run failed; the others are stored
    ├── Diverged             inf or nan in a residual stream or in logits
    └── StoreError
        ├── StoreDamaged     a file that is torn, foreign or not in its schema
        ├── StoreBusy        files that cannot be exchanged, because one query reads them for very long
        ├── StoreTooNew      a store written by a later version
        ├── DiskFull         too little room for what is about to be written
        └── QueryError       SQL that DuckDB refuses

A message names the thing, the value and the remedy. The CLI prints it as one paragraph and exits with 2.

What is allowed and likely unwanted is a SteeringWarning, which Python's `warnings` silence or make an error.
"""

from typing import Any


class SteerflowError(Exception):
    """Base of every error that steerflow raises on purpose."""


class SteeringWarning(UserWarning):
    """Steering that is allowed and likely unwanted, such as a dose beyond what was measured as safe."""


class SpecError(SteerflowError):
    """A spec that cannot be run; the message lists every fault."""


class SamplingError(SteerflowError):
    """Texts cannot be drawn in that way."""


class GrammarError(SamplingError):
    """A form of answers that cannot be followed: a JSON schema, or a tokenizer that no grammar can read."""


class ConceptError(SteerflowError):
    """A concept file that cannot be read or used."""


class CapabilityError(SteerflowError):
    """A set of questions or tasks on a capability that cannot be read or used."""


class ModelError(SteerflowError):
    """Base of the errors about a language model."""


class ModelNotFound(ModelError):
    """No embedded model, local folder or hub repository goes by this name."""


class ModelGated(ModelNotFound):
    """A hub repository that asks for terms to be accepted, or for another token."""


class HubUnreachable(ModelNotFound):
    """A hub that does not answer or breaks off, which time may mend."""


class ModelUnsupported(ModelError):
    """An architecture whose blocks cannot be tapped, so it would run unsteered, or files that MLX does not read."""


class ModelDamaged(ModelError):
    """A model's file that is cut short, is missing or cannot be read."""


class ModelRunsCode(ModelError):
    """A model that loads only by running Python of its own, which nobody allowed."""


class ModelTooLarge(ModelError):
    """A model whose weights do not fit into the memory that may be used."""


class LayerNotFound(ModelError):
    """A layer outside 0 .. n_layers - 1."""


class SiteNotFound(ModelError):
    """A site that does not exist, or that this architecture's blocks do not have."""


class PositionUnknown(ModelError):
    """A position that names no tokens."""


class PromptError(ModelError):
    """A prompt that is empty, longer than the model's context, or has tokens that the model does not."""


class TemplateError(PromptError):
    """A conversation that the model's chat template refuses; the message has the template's own words."""


class NoGradient(ModelError):
    """MLX cannot differentiate a model's blocks."""


class TapNotFired(ModelError):
    """A captured or steered block that the forward pass never called."""


class InterventionError(SteerflowError):
    """An intervention that cannot be parsed or does not fit the model."""


class NotBakeable(InterventionError):
    """An intervention that no weights can hold, or not those of this architecture, or not in the form asked for."""


class VectorError(SteerflowError):
    """Base of the errors about steering vectors."""


class VectorNotFound(VectorError):
    """No vector in the store goes by this name or key."""


class VectorAmbiguous(VectorError):
    """A name that several vectors go by, where one is needed."""


class VectorFileError(VectorError):
    """A file of vectors (safetensors, GGUF, PyTorch) that cannot be read or written."""


class VectorMismatch(VectorError):
    """A vector of another model, width or layer than the one it is applied to."""


class OutputError(SteerflowError):
    """A report that cannot be written where it should be."""


class SettingError(SteerflowError):
    """An environment variable, or a setting of its form, that cannot be read, or names a folder that cannot be used."""


class EndpointError(SteerflowError):
    """A server of OpenAI's form that cannot be reached, refuses, or answers in another form."""


class PackageMissing(SteerflowError):
    """An optional package, such as pandas, that is asked for and not installed."""


class JudgeUntrusted(SteerflowError):
    """A language model that rates texts of known quality wrongly, and so may judge no others."""


class WordUnknown(SteerflowError):
    """A verb of the command line, or a word of the glossary, that does not exist."""


class RunIncomplete(SteerflowError):
    """Some (model, concept) cells of a run failed; `report` tells of the others, which are stored."""

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class Diverged(SteerflowError):
    """inf or nan in a residual stream or in logits."""


class StoreError(SteerflowError):
    """Base of the errors about the store on disk."""


class StoreDamaged(StoreError):
    """A file that is torn, foreign or not in its table's schema."""


class StoreBusy(StoreError):
    """Files cannot give way to others, because one query has been reading them for very long."""


class StoreTooNew(StoreError):
    """A store written by a later version of steerflow."""


class DiskFull(StoreError):
    """Too little room for what is about to be written."""


class QueryError(StoreError):
    """SQL that DuckDB refuses."""
