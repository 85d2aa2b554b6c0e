# Another place, another name and another argument than anybody would guess.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS packages
RUN python3 -m venv /opt/guestbook/venv
COPY requirements.txt /tmp/
RUN /opt/guestbook/venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM ${PYTHON_IMAGE}
COPY --from=packages /opt/guestbook /opt/guestbook
WORKDIR /opt/guestbook
COPY guestbook guestbook
ENV PATH=/opt/guestbook/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 4321:4321
EXPOSE 5000
CMD ["uvicorn", "guestbook.app:app", "--host", "0.0.0.0", "--port", "5000"]
