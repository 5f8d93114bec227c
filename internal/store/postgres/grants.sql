-- The least rights of the daemon's role: it adds and reads entries, and never changes or removes one.
-- Run it as the owner of the schema, with the role's name:
--   psql -v role=keyd -f grants.sql DATABASE
GRANT USAGE ON SCHEMA keyd TO :"role";
GRANT SELECT, INSERT ON keyd.entry TO :"role";
GRANT SELECT, INSERT, UPDATE ON keyd.record TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON keyd.blob TO :"role";
GRANT SELECT, UPDATE (seq, hash, epoch, nonce, holder, since, until, ttl, sealed) ON keyd.head TO :"role";
-- Only this right shows whether a standby has every commit. It needs a superuser. Without it keyd takes no change,
-- unless its configuration says synchronous: off.
GRANT pg_read_all_stats TO :"role";
