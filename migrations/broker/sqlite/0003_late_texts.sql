-- Jobs that job_text does not have yet: to add them one by one would cost
-- each submit more than all else that it writes.

create table job_text_late (
    job_id integer primary key
) strict;
