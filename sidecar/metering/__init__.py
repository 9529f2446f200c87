"""The metering proxy: stands where an agent's model providers would, passes calls through, and tells what each one used.

``providers`` says who stands behind which route, ``apis`` which call a path is, ``asking`` what a request says, ``answers``
and ``usage`` what an answer says; ``calls`` makes the event of it. None of them touches the network: ``door`` does.
"""
