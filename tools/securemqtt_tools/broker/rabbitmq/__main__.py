"""`python -m securemqtt_tools.broker.rabbitmq [HOME]`: a home's RabbitMQ, in the foreground."""

import sys

from securemqtt_tools.broker.rabbitmq.running import main

sys.exit(main(sys.argv[1:]))
