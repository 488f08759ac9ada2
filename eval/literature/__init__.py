"""Published results about jets and scale, and how measured ones compare with them."""
