"""The labelling job: frozen inputs, work units, journal, shards, and the record of finished steps."""
