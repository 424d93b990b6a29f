-- When a target last proved that it wants deliveries, when it is to be asked again (null: not at all), and why its last
-- challenge proved nothing. How it is asked is in `request`.
ALTER TABLE targets ADD COLUMN verified_at BIGINT;
ALTER TABLE targets ADD COLUMN ask_at BIGINT;
ALTER TABLE targets ADD COLUMN not_proved TEXT;
CREATE INDEX targets_to_ask ON targets (ask_at) WHERE ask_at IS NOT NULL;
