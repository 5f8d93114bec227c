-- The least rights of the daemon's role: it adds and reads entries, and never changes or removes one.
-- The owner of the tables can give them, and a superuser.
GRANT USAGE ON SCHEMA keyd TO :"role";
GRANT SELECT, INSERT ON keyd.entry TO :"role";
GRANT SELECT, INSERT, UPDATE ON keyd.record TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON keyd.blob TO :"role";
GRANT SELECT, UPDATE (seq, hash, epoch, nonce, holder, since, until, ttl, sealed) ON keyd.head TO :"role";
-- Only this right shows whether a standby has every commit, and only a superuser can give it. Without it keyd takes no
-- change, unless its configuration says synchronous: off.
GRANT pg_read_all_stats TO :"role";
