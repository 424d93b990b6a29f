-- Lists of the audit log that are narrowed by a thing's id alone, or by a kind alone: along an index of their own, in
-- the order of the list. Without a tenant the id alone finds the few entries of a thing.
CREATE INDEX audit_of_thing ON audit (thing, tenant, id);
CREATE INDEX audit_of_kind ON audit (tenant, kind, id);
