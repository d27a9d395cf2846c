-- The role that the product runs as: it can add to the audit trail and read it, and change nothing in it.
-- Run with psql as the owner of the tables, after every `manage.py migrate`:
--
--   psql "$OWNER_DATABASE_URL" -v ON_ERROR_STOP=1 -v app=onesource_app -f deploy/postgresql/roles.sql
--
-- The role must exist (CREATE ROLE onesource_app LOGIN PASSWORD '...') and must not be a superuser. Migrations run as
-- the owner, whose password the web and worker processes do not know.

GRANT USAGE, CREATE ON SCHEMA public TO :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"app";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"app";
REVOKE UPDATE, DELETE, TRUNCATE ON
    audit_event, audit_leaf, audit_tile, audit_checkpoint, audit_signing_key, django_migrations FROM :"app";

-- Contents are the product's to delete: the worker makes and drops the partition of each day, and vacuums. As a member
-- the owner can go on migrating these tables.
GRANT :"app" TO CURRENT_USER;
SELECT format('ALTER TABLE %I OWNER TO %I', relname, :'app') FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
    AND relowner <> (SELECT oid FROM pg_roles WHERE rolname = :'app')
    AND (relname LIKE 'turn\_content%' OR relname IN ('content_key', 'held_content', 'subject_alias'))
\gexec
