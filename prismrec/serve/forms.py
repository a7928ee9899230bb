"""The form of what is asked and answered, with examples: what OpenAPI shows. Ids are text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Id = Annotated[str, Field(min_length=1, max_length=500, examples=["u00007"])]
ItemId = Annotated[str, Field(min_length=1, max_length=500, examples=["i00017"])]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Weight = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Between(_Asked):
    """Numbers from ``least`` to ``most``, both included."""

    least: Number | None = None
    most: Number | None = None


Scalar = str | bool | int | Number
Condition = Between | Scalar | list[Scalar]


class Wishes(_Asked):
    """How a list is to be made."""

    k: int = Field(default=20, ge=1, description="Items of the list.")
    export: Name | None = Field(default=None, description="Which export; the first where none is named.")
    modality: Name | None = Field(default=None, description="Rank by the score of this modality alone.")
    weights: dict[Name, Weight] | None = Field(
        default=None, max_length=16, description="Modality, or `fused` (1 where not named) → weight of its standardised score."
    )  # fmt: skip
    diversity: float = Field(
        default=0.0, ge=0, le=1, description="From 0, the order of scores, to 1: items unlike each other."
    )
    exclude_seen: bool = Field(
        default=True, description="Leave out what the user has taken. (A session's own items always are.)"
    )
    allow: list[ItemId] | None = Field(default=None, description="List these items only.")
    deny: list[ItemId] = Field(default_factory=list, description="Never list these items.")
    where: dict[Name, Condition] = Field(
        default_factory=dict, max_length=32,
        description="Column of the item table → a value, a list of values of which one must hold, or a range.",
    )  # fmt: skip


class AskList(Wishes):
    """A list for a user, or for whoever took some items."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user": "u00007", "k": 10},
                {"user": "u00007", "k": 10, "weights": {"image": 0.5}, "diversity": 0.3},
                {"items": ["i00017", "i00003"], "k": 10, "deny": ["i00004"]},
            ]
        }
    )
    user: Id | None = Field(default=None, description="A user; one who is not known gets popular items.")
    items: list[ItemId] | None = Field(
        default=None, min_length=1, description="A session: items just taken, in place of a user."
    )
    reasons: bool = Field(default=False, description="Say of each item what each modality says of it.")


class AskBatch(Wishes):
    """Lists for many users."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"users": ["u00007", "u00008"], "k": 10}]})
    users: list[Id] = Field(min_length=1)


class Said(BaseModel):
    """What one side of the score says of an item for a user."""

    score: float
    deviations: float = Field(description="Standard deviations above the mean of the user's scores over all items.")
    rank: int = Field(description="1 + the unseen items that score higher.")


class Card(BaseModel):
    """An item in brief."""

    item: str = Field(examples=["i00017"])
    title: str | None = None
    picture: bool = Field(description="Whether `/pictures/ITEM` has one.")


class Listed(Card):
    """An item in a list. With `reasons` also what each side says, the share of each modality, and who would list it."""

    score: float | None
    said: dict[str, Said] | None = None
    shares: dict[str, float] | None = None
    evidence: str | None = Field(default=None, examples=["unique image", "redundant", "synergy"])


class AnswerList(BaseModel):
    """A list, best first."""

    user: str | None = None
    basis: Literal["user", "session", "popular"] = Field(
        description="`popular`: nothing is known of this user, so these are the items most taken; the score is by how many."
    )
    export: str
    version: str
    items: list[Listed]


class AnswerBatch(BaseModel):
    """Lists in the order of the users."""

    export: str
    version: str
    lists: list[AnswerList]


class AnswerSimilar(BaseModel):
    """Items like an item, most alike first."""

    item: str
    by: str | None
    export: str
    version: str
    items: list[Listed]


class AnswerItem(Card):
    """All that the item table says."""

    popularity: int = Field(description="Users known to have taken it.")
    fields: dict[str, JsonValue]


class AnswerItems(BaseModel):
    """Items found."""

    items: list[Card]


class AnswerUsers(BaseModel):
    """Users found."""

    users: list[str]


class AnswerUser(BaseModel):
    """What a user is known to have taken."""

    user: str
    taken: int
    items: list[Card]


class Forgot(BaseModel):
    """From now on this user is unknown."""

    user: str
    forgotten: Literal[True] = True


class Near(Card):
    """An item of the history near to the item in question."""

    cosine: float


class AnswerWhy(BaseModel):
    """Why an item stands, or does not, among the first k of a user."""

    user: str
    item: Card
    k: int
    said: dict[str, Said]
    shares: dict[str, float]
    near: dict[str, list[Near]]
    evidence: str


class AnswerMap(BaseModel):
    """Items on a plane, near where they are alike. `groups` and `group` (−1: none) give the colour."""

    export: str
    version: str
    method: str
    awaited: bool = Field(description="Whether a better map is being made: ask again in a while.")
    by: str
    groups: list[str]
    items: list[str]
    titles: list[str | None]
    pictures: list[bool]
    x: list[float]
    y: list[float]
    group: list[int]


class AnswerExports(BaseModel):
    """What is being served, the first of it first, and within what limits."""

    exports: list[dict[str, Any]]
    max_k: int
    max_batch: int


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Ready(BaseModel):
    """Whether requests can be answered; `refused`: new exports that could not be read, and why."""

    ready: bool
    exports: dict[str, str]
    refused: dict[str, str]
