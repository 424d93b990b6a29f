-- Where the change feed stood at which time, so that old changes can be removed. A follower further
-- behind finds a gap, since changes are numbered without one, and forgets all it remembers.
CREATE TABLE change_marks (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL
);
