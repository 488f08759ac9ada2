"""Jets as data: schema, stores, readers of foreign formats, simulation, tagger features and batches."""
