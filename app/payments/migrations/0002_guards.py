"""Triggers for what a constraint can't say, because it sees only one state of a row.

They bind every program that writes as the app's role. The owner of the tables could drop
them; the app never logs in as the owner.
"""

from django.db import migrations

AUDIT_IS_APPEND_ONLY = """
CREATE FUNCTION payments_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are never changed or deleted'
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON payments_auditentry
    FOR EACH ROW EXECUTE FUNCTION payments_audit_is_append_only();
"""

REQUESTS_KEEP_THEIR_TERMS = """
CREATE FUNCTION payments_request_keeps_its_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.payee, OLD.purpose, OLD.amount, OLD.currency, OLD.invoice,
        OLD.requested_by_id, OLD.requested_at)
       IS DISTINCT FROM
       (NEW.payee, NEW.purpose, NEW.amount, NEW.currency, NEW.invoice,
        NEW.requested_by_id, NEW.requested_at)
    THEN
        RAISE EXCEPTION 'a payment request is not changed once it is made'
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN
        (('requested', 'approved'), ('requested', 'rejected'), ('approved', 'paid'))
    THEN
        RAISE EXCEPTION 'a payment request can''t go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER request_keeps_its_terms BEFORE UPDATE ON payments_paymentrequest
    FOR EACH ROW EXECUTE FUNCTION payments_request_keeps_its_terms();
"""


class Migration(migrations.Migration):
    dependencies = [("payments", "0001_initial")]

    operations = [
        migrations.RunSQL(
            AUDIT_IS_APPEND_ONLY,
            "DROP TRIGGER audit_is_append_only ON payments_auditentry;"
            "DROP FUNCTION payments_audit_is_append_only();",
        ),
        migrations.RunSQL(
            REQUESTS_KEEP_THEIR_TERMS,
            "DROP TRIGGER request_keeps_its_terms ON payments_paymentrequest;"
            "DROP FUNCTION payments_request_keeps_its_terms();",
        ),
    ]
