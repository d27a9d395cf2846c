-- The role that the product runs as: it can add to the audit trail and read it, and change nothing in it.
-- Run as the owner of the tables, after every `manage.py migrate`:
--
--   psql "$OWNER_DATABASE_URL" -v ON_ERROR_STOP=1 -v app=onesource_app -f deploy/postgresql/roles.sql
--
-- The role must exist (CREATE ROLE onesource_app LOGIN PASSWORD '...'), must not be a superuser and must own nothing.
-- Migrations run as the owner, whose password the web and worker processes do not know.

GRANT USAGE ON SCHEMA public TO :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"app";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"app";
REVOKE UPDATE, DELETE, TRUNCATE ON
    audit_event, audit_leaf, audit_tile, audit_checkpoint, audit_signing_key, django_migrations FROM :"app";
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
