"""Networks: the generator, the tagger, their ladder of sizes and how they are counted."""
