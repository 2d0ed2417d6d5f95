"""The case ``typed``, with orjson in both directions."""

import orjson
from ninja import Field, NinjaAPI, Query, Schema
from ninja.parser import Parser
from ninja.renderers import BaseRenderer


class ORJSONParser(Parser):
    def parse_body(self, request):
        return orjson.loads(request.body)


class ORJSONRenderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request, data, *, response_status):
        return orjson.dumps(data)


class Options(Schema):
    limit: int = Field(20, ge=1, le=100)
    urgent: bool = False


class NewOrder(Schema):
    name: str = Field(min_length=1, max_length=100)
    quantity: int = Field(ge=1)
    tags: list[str]


class Order(Schema):
    id: int
    limit: int
    urgent: bool
    name: str
    quantity: int
    tags: list[str]


api = NinjaAPI(parser=ORJSONParser(), renderer=ORJSONRenderer())


@api.post("/orders/{int:id}", response=Order)
def typed(request, id: int, options: Query[Options], new: NewOrder):
    return Order(
        id=id,
        limit=options.limit,
        urgent=options.urgent,
        name=new.name,
        quantity=new.quantity,
        tags=new.tags,
    )
